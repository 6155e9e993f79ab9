// Browsers start no worker for a page that is read from disk. There the search runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = `<script>postMessage = message => parent.postMessage(message, "*")</script><script src="${url}"></script>`
      this.ready = new Promise(resolve => frame.addEventListener("load", resolve))
      addEventListener("message", event => {
        if (event.source === frame.contentWindow) this.dispatchEvent(new MessageEvent("message", { data: event.data }))
      })
      document.body.append(frame)
      this.frame = frame
    }
    postMessage(message) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: message })))
    }
    terminate() {
      this.frame.remove()
    }
  }
}
