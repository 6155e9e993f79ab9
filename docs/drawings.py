"""The figures of the method pages. What each shows was read in the method's module, not in the paper's own figure."""

from figures import arrow, bars, box, cell, dot, figure, grid, line, text, tokens  # beside this file

IMAGE, OTHER = "aaaa aaaa aaaa aaaa", "bbbb bbbb bbbb bbbb"
VISIBLE, FILLED = "--a- ---a a--- -a--", "AAaA AAAa aAAA AaAA"

MAE = figure(
    "mae", 430, "MAE: most patches are hidden, and painted back",
    """An image is cut into sixteen patches. Twelve are hidden. The four visible ones alone go through the encoder
    E. A mask token is put into each gap, positions are added, and the decoder D makes all sixteen patches.
    Where patches were hidden they are compared with the image.""",
    text(59, 16, "image"), grid(20, 24, IMAGE), arrow((106, 63), (252, 63)),
    text(178, 55, "hide three in four", small=True),
    text(301, 16, "masked"), grid(262, 24, VISIBLE), arrow((301, 106), (301, 126), (200, 126), (200, 142)),
    grid(162, 146, "aaaa"), text(250, 160, "visible patches only", "start", True), arrow((200, 168), (200, 184)),
    box(120, 186, 160, 36, "encoder E"), arrow((200, 222), (200, 238)), grid(73, 242, "mmammmmaammmmamm", 14),
    text(200, 273, "a mask token in each gap", small=True), arrow((200, 280), (200, 294)),
    box(140, 296, 120, 30, "decoder D"), arrow((200, 326), (200, 342)), grid(162, 346, FILLED),
    arrow((40, 106), (40, 385), (154, 385)), text(48, 378, "target", "start", True),
    text(250, 380, "squared error", "start"), text(250, 397, "where hidden", "start"),
)  # fmt: skip

DBOT = figure(
    "dbot", 352, "dBOT: the student of one stage teaches the next",
    """Two columns. Left: of a masked image the visible patches go through the student's encoder E k and a decoder.
    Right: the whole image goes through the frozen encoder of the stage before, E k minus 1, whose features are
    normalised. The two are compared by smooth L1 at hidden patches and at the class token. Below, a chain: a
    random encoder teaches stage 1, whose encoder teaches stage 2.""",
    text(110, 16, "visible patches"), grid(71, 24, VISIBLE), text(300, 16, "whole image"), grid(261, 24, IMAGE),
    arrow((110, 106), (110, 124)), box(40, 126, 140, 34, "student Eₖ"), arrow((110, 160), (110, 176)),
    box(55, 178, 110, 30, "decoder D"), arrow((300, 106), (300, 124)),
    box(230, 126, 140, 34, "teacher Eₖ₋₁", frozen=True),
    arrow((300, 160), (300, 176), broken=True), box(235, 178, 130, 30, "normalise", frozen=True),
    arrow((110, 208), (110, 228)), arrow((300, 208), (300, 228), broken=True),
    text(200, 246, "smooth L1 where hidden, and of the class token"),
    box(10, 280, 96, 34, "random", frozen=True), arrow((106, 297), (150, 297)), box(152, 280, 96, 34, "stage 1"),
    arrow((248, 297), (292, 297)), box(294, 280, 96, 34, "stage 2"),
    text(200, 338, "An arrow: teaches. Each student begins from fresh weights.", small=True),
)  # fmt: skip

MASKDISTILL = figure(
    "maskdistill", 256, "MaskDistill: a teacher’s features, told where patches are hidden",
    """Two columns. Left: an image in which blocks of patches are replaced by mask tokens goes, all places of it,
    through the student S and a linear head H. Right: the whole image goes through a frozen teacher T, such as
    CLIP, and its features are normalised, N. The two are compared where patches are hidden.""",
    text(110, 16, "blocks hidden"), grid(71, 24, "mmaa mmaa aaam aaam"), text(300, 16, "whole image"),
    grid(261, 24, IMAGE),
    arrow((110, 106), (110, 124)), box(40, 126, 140, 34, "student S"), arrow((110, 160), (110, 176)),
    box(55, 178, 110, 30, "head H, linear"), arrow((300, 106), (300, 124)),
    box(230, 126, 140, 34, "teacher T", frozen=True),
    arrow((300, 160), (300, 176), broken=True), box(235, 178, 130, 30, "normalise, N", frozen=True),
    arrow((110, 208), (110, 228)), arrow((300, 208), (300, 228), broken=True),
    text(200, 246, "smooth L1 where hidden"),
)  # fmt: skip

IMAE = figure(
    "imae", 492, "i-MAE: a blend is told apart",
    """Image 1 with weight alpha and image 2 with weight 1 minus alpha are blended. The visible patches of the
    blend go through the encoder E. Two branches follow, one for the fainter and one for the stronger image.
    Each is held against what a frozen teacher T makes of its image alone. A decoder that both share paints both
    images.""",
    text(59, 16, "image 1"), grid(20, 24, IMAGE), arrow((104, 63), (154, 63)), text(128, 54, "α"),
    text(200, 16, "blend"), grid(161, 24, "cccc cccc cccc cccc"), arrow((296, 63), (246, 63)), text(272, 54, "1 − α"),
    text(341, 16, "image 2"), grid(302, 24, OTHER), arrow((200, 106), (200, 122)), grid(162, 126, "cccc"),
    text(250, 140, "visible patches only", "start", True), arrow((200, 148), (200, 162)),
    box(120, 164, 160, 34, "encoder E"),
    arrow((150, 198), (100, 222)), arrow((250, 198), (300, 222)), box(30, 224, 130, 34, "branch, fainter"),
    box(240, 224, 130, 34, "branch, stronger"), box(145, 282, 110, 44, "teacher T of", "each alone", frozen=True),
    arrow((145, 304), (125, 304), (125, 260), broken=True), arrow((255, 304), (275, 304), (275, 260), broken=True),
    arrow((70, 258), (70, 346)), arrow((330, 258), (330, 346)), box(30, 348, 340, 32, "decoder D, shared"),
    arrow((95, 380), (95, 396)), arrow((305, 380), (305, 396)), grid(56, 400, "AAAA AAAA AAAA AAAA"),
    grid(266, 400, "BBBB BBBB BBBB BBBB"), text(200, 436, "squared error"), text(200, 453, "where hidden"),
)  # fmt: skip

CLMAE = figure(
    "clmae", 410, "CL-MAE: which patches are hidden is learned",
    """A masking module M gives each patch of an image a chance m to stay visible. The likeliest quarter stays and
    goes through the autoencoder E and D. The error of a second pass, in which the autoencoder is frozen and
    patches are weighed by m, is handed back to the module with a factor c. A plot: over the training c falls
    from plus 1, where the module helps, to minus 1, where it works against the autoencoder.""",
    text(59, 16, "image"), grid(20, 24, IMAGE), arrow((104, 63), (128, 63)),
    box(130, 40, 112, 46, "masking", "module M"),
    arrow((242, 63), (274, 63)), text(321, 16, "m, to stay visible"), grid(282, 24, "2718 9143 0825 6391"),
    arrow((321, 106), (321, 128)), text(312, 122, "the likeliest quarter", "end", True),
    grid(282, 132, "---a a--- -a-- --a-"),
    arrow((321, 214), (321, 232)), box(252, 234, 138, 46, "autoencoder", "E, then D"),
    arrow((252, 257), (186, 257), (186, 90)), text(178, 160, "c × error", "end"),
    text(178, 178, "with m as soft mask,", "end", True),
    text(178, 194, "autoencoder frozen", "end", True),
    line((70, 310), (70, 400)), line((70, 355), (340, 355), kind="line faint"),
    line((70, 318), (340, 392), kind="plot a"),
    text(62, 323, "+1", "end"), text(62, 360, "0", "end"), text(62, 397, "−1", "end"),
    text(110, 318, "helps", "start", True),
    text(300, 400, "defeats", "end", True), text(340, 330, "c over the training", "end", True),
)  # fmt: skip

MIXMASK = figure(
    "mixmask", 292, "MixMask: a view is filled with another image, and answers to both",
    """Three columns. A second view of image 1 goes through the key encoder to the vector k, one of image 2 to the
    vector k prime. Between them a view of image 1, of which a part is filled with image 2, goes through the
    encoder to m. Arrows lead from m to k with weight lambda and from m to k prime with weight 1 minus lambda,
    lambda being the area that image 1 keeps.""",
    text(70, 16, "image 1, 2nd view"), grid(31, 24, IMAGE), text(200, 16, "mixed view"),
    grid(161, 24, "bbba bbba aaba aaba"),
    text(330, 16, "image 2, 2nd view"), grid(291, 24, OTHER),
    *(arrow((x, 106), (x, 124)) for x in (70, 200, 330)), box(15, 126, 110, 34, "key encoder", frozen=True),
    box(145, 126, 110, 34, "encoder"), box(275, 126, 110, 34, "key encoder", frozen=True),
    *(arrow((x, 160), (x, 180)) for x in (70, 200, 330)), dot(70, 192, 7), dot(330, 192, 7, "b"),
    cell(193, 185, "c", 14),
    arrow((186, 192), (84, 192)), text(135, 184, "λ"), arrow((214, 192), (316, 192)), text(265, 184, "1 − λ"),
    text(70, 218, "k"), text(200, 218, "m"), text(330, 218, "k′"), text(200, 244, "λ is the area that image 1 keeps"),
    text(200, 268, "Beside it the base’s own loss: of a whole first view,", small=True),
    text(200, 284, "q, against k.", small=True),
)  # fmt: skip

MAE_ST = figure(
    "mae_st", 372, "MAE-ST: nine in ten tubelets of a clip are hidden",
    """A clip is four steps in time, each cut into nine tubelets of two frames. Most tubelets are hidden, whatever
    their place and time. The few visible ones go through the encoder E, the decoder D fills the gaps, and a
    frame of each hidden tubelet is compared with the clip.""",
    text(200, 16, "a clip: four steps of tubelets, two frames deep", small=True),
    *(grid(x, 24, "aaa aaa aaa", 16) for x in (26, 126, 226, 326)),
    *(arrow((x, 50), (x + 40, 50)) for x in (82, 182, 282)), arrow((200, 84), (200, 102)),
    text(210, 97, "most hidden, anywhere", "start", True),
    *(grid(x, 106, rows, 16) for x, rows in
      zip((26, 126, 226, 326), ("--- -a- ---", "--- --- a--", "--a --- ---", "--- --- -a-"), strict=True)),
    arrow((200, 166), (200, 182)), box(120, 184, 160, 34, "encoder E"), text(290, 205, "visible ones", "start", True),
    arrow((200, 218), (200, 234)), box(140, 236, 120, 30, "decoder D"), arrow((200, 266), (200, 282)),
    *(grid(x, 286, rows, 16) for x, rows in
      zip((26, 126, 226, 326), ("AAA AaA AAA", "AAA AAA aAA", "AAa AAA AAA", "AAA AAA AaA"), strict=True)),
    text(200, 362, "squared error of a frame of each hidden tubelet"),
)  # fmt: skip


M3AE = figure(
    "m3ae", 396, "M3AE: patches and words are one sequence",
    """Left, an image of which three patches in four are hidden. Right, the caption red seven on grass, of which only
    the word seven is visible. Visible patches and visible words together go through one encoder. The decoder fills
    the gaps of both: patches are held against pixels by squared error, words by cross-entropy.""",
    text(70, 16, "image"), grid(31, 24, VISIBLE), text(280, 44, "caption"), tokens(174, 52, "-", "seven", "-", "-"),
    arrow((70, 106), (70, 147), (116, 147)), arrow((253, 76), (253, 134)), grid(124, 138, "aaaa"),
    tokens(228, 136, "seven"), text(160, 130, "one sequence", small=True), arrow((200, 162), (200, 178)),
    box(120, 180, 160, 34, "joint encoder E"), arrow((200, 214), (200, 230)), box(120, 232, 160, 32, "decoder D"),
    text(290, 253, "mask tokens of", "start", True), text(290, 268, "either kind", "start", True),
    arrow((160, 264), (85, 286)), arrow((240, 264), (280, 300)), grid(31, 290, FILLED),
    tokens(174, 306, "+red", "seven", "+on", "+grass"), text(70, 388, "squared error"),
    text(280, 352, "cross-entropy"),
)  # fmt: skip

ELO = figure(
    "elo", 414, "ELo: many losses, whose weights are searched for",
    """Four networks, for RGB, grey, flow and sound, each with seven tasks. Broken arrows lead from the other three
    into that for RGB: distillation after each of four stages. Every loss has a weight lambda. Below, a loop: a small
    network is trained with some weights, its RGB network groups videos by k-means, the sizes of the groups are held
    against Zipf's law, and the search proposes the next weights.""",
    *(box(x, 34, 84, 46, name) for x, name in ((10, "RGB"), (109, "grey"), (208, "flow"), (307, "sound"))),
    *(arrow((x, 34), (x, y), (52 + i * 12, y), (52 + i * 12, 32), broken=True)
      for i, (x, y) in enumerate(((151, 24), (250, 16), (349, 8)))),
    *(arrow((x, 80), (x, 98)) for x in (52, 151, 250, 349)),
    text(200, 114, "each: reconstruct, predict, transfer, order,", small=True),
    text(200, 130, "arrow of time, contrast, align", small=True),
    text(200, 146, "broken: distillation, after each of four stages", small=True), arrow((200, 156), (200, 172)),
    box(70, 174, 260, 34, "sum of λ × loss, over all of these"), arrow((200, 208), (200, 226)),
    box(70, 228, 260, 34, "RGB features of videos, k-means"), arrow((200, 262), (200, 280)),
    bars(110, 363, [62, 40, 24, 19, 10, 9, 5, 4]),
    line(*((116 + 15 * i, 363 - 60 / (i + 1)) for i in range(8)), kind="plot b"),
    *(dot(116 + 15 * i, 363 - 60 / (i + 1), 3, "b") for i in range(8)),
    text(196, 308, "sizes of the clusters", "start", True), text(196, 324, "against Zipf’s law", "start", True),
    arrow((104, 343), (34, 343), (34, 191), (64, 191)),
    text(26, 386, "the search proposes the next weights λ", "start"),
    text(26, 404, "(run elo_search; elo trains with the best)", "start", True),
)  # fmt: skip

BREP = figure(
    "brep_ssl", 330, "B-Rep SSL: a face is redrawn from its code",
    """Top: four vertices pass messages to the edges they end, and five edges, one of them the circle of a hole, to
    the face they bound; the face's code comes out. Bottom left: the unit square of the face's parameters u and
    v, in it the face with a hole, a point, and its distance to the boundary. The decoder is given the place u,
    v and the code, and tells the point x, y, z of the surface there and the signed distance d, which is
    negative inside the face.""",
    text(50, 16, "vertices"), text(140, 16, "edges"), text(230, 16, "face"),
    *(line((50, 36 + 28 * i), (140, 30 + 28 * j), kind="line faint")
      for i, j in ((0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (0, 3))),
    *(line((140, 30 + 28 * j), (230, 86), kind="line faint") for j in range(5)),
    *(dot(50, 36 + 28 * i) for i in range(4)), *(cell(134, 24 + 28 * j, "b", 12) for j in range(5)), dot(230, 86, 10),
    arrow((244, 86), (278, 86)), box(280, 68, 100, 36, "code E(face)"),
    '<rect class="hidden" x="20" y="180" width="100" height="100"/>',
    '<path class="face" fill-rule="evenodd" d="M30 196L106 188L112 262L38 272ZM70 214a14 14 0 1 0 .1 0Z"/>',
    line((52, 243), (59, 237), kind="plot b"), dot(52, 243, 4, "b"), text(52, 262, "d", small=True),
    text(70, 172, "place (u, v)"), arrow((120, 230), (158, 230)), box(160, 212, 110, 36, "decoder"),
    arrow((330, 104), (330, 160), (215, 160), (215, 210)), arrow((215, 248), (215, 268)),
    text(134, 286, "the point (x, y, z) there,", "start"),
    text(134, 304, "and d to the boundary, below 0 inside", "start"),
)  # fmt: skip

EXSSNET = figure(
    "exssnet", 288, "ExSSNeT: each task trains weights that no other has",
    """One layer's weights, three times, as three tasks come one after the other. Each task's mask uses six of the
    twenty-five weights. The first task trains all six. The second uses two of the first task's weights as they
    are and trains four of its own. The third uses one weight of each earlier task and trains four of its own.""",
    *(text(x, 16, f"task {i}") for i, x in enumerate((64, 200, 336), 1)),
    grid(20, 26, "a--a- ----- -a--a --a-- ----a", 16), grid(156, 26, "---A- a---- -A--- -a-a- ---a-", 16),
    grid(292, 26, "--a-- A---a --a-- ----- -a--A", 16), arrow((114, 70), (150, 70)), arrow((250, 70), (286, 70)),
    cell(20, 140, "a"), text(46, 154, "used, and trained by this task", "start"), cell(20, 168, "A"),
    text(46, 182, "used as an earlier task left it", "start"), cell(20, 196, "-"), text(46, 210, "not used", "start"),
    text(20, 246, "First the mask is learned with all weights frozen,", "start"),
    text(20, 266, "then those of its weights that are free.", "start"),
)  # fmt: skip

META = figure(
    "meta_multilabel", 306, "Meta-learned policies: a network weighs labels and sets thresholds",
    """Three steps of a classifier's training. Above, a GRU goes from state to state. At each step it hands the
    classifier weights w and thresholds p, the classifier learns from a batch of texts, and a broken arrow leads
    back: the reward R.""",
    *(
        box(c - 50, 30, 100, 36, f"GRU, s{sub}") + arrow((c - 14, 66), (c - 14, 148))
        + text(c - 20, 112, f"w{sub}, p{sub}", "end")
        + arrow((c + 18, 148), (c + 18, 68), broken=True) + text(c + 25, 112, f"R{sub}", "start")
        + box(c - 50, 150, 100, 36, "classifier") + arrow((c, 220), (c, 188)) + text(c, 236, "texts", small=True)
        for c, sub in ((70, "₁"), (200, "₂"), (330, "₃"))
    ),
    *(arrow((x, y), (x + 26, y)) for x in (122, 252) for y in (48, 168)),
    text(200, 268, "w weighs each label’s loss in the step;", small=True),
    text(200, 286, "R holds what is then predicted against thresholds p.", small=True),
)  # fmt: skip

FIGURES = {
    "mae": MAE,
    "dbot": DBOT,
    "maskdistill": MASKDISTILL,
    "imae": IMAE,
    "clmae": CLMAE,
    "mixmask": MIXMASK,
    "mae_st": MAE_ST,
    "m3ae": M3AE,
    "elo": ELO,
    "brep_ssl": BREP,
    "exssnet": EXSSNET,
    "meta_multilabel": META,
}
