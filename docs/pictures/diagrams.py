"""The drawings: the actors, the life of a call, the layout of the file."""

from canvas import Canvas, Point

from thread_chunks._format import HEADER_SIZE
from thread_chunks._records import RECORD_SIZE


def actors() -> Canvas:
    """Draw who talks to whom, and what each owns."""
    picture = Canvas(
        "chunk() in your thread talks to a supervisor; the supervisor to workers, each with a child process, and to"
        " the checkpoint writer, which alone touches the file",
        470,
        452,
    )
    picture.box(Point(4, 4), Point(462, 296), fill="none", is_dashed=True)
    picture.words(Point(14, 22), "your script: one process,\neach box a thread", "soft", anchor="start")
    picture.box(Point(165, 16), Point(150, 44), ["chunk()", "waits for news"])
    picture.box(Point(165, 124), Point(150, 44), ["Supervisor", "owns the plan"], edge="ours", fill="tint")
    picture.box(Point(16, 240), Point(96, 44), ["Worker 1", "one chunk"], edge="ours", fill="tint")
    picture.box(Point(128, 240), Point(96, 44), ["Worker n", "one chunk"], edge="ours", fill="tint")
    picture.box(
        Point(302, 240), Point(152, 44), ["CheckpointWriter", "owns the checkpoint"], edge="ours", fill="tint"
    )

    picture.arrow(Point(215, 60), Point(215, 123))
    picture.words(Point(208, 96), "StartRun", anchor="end", is_code=True)
    picture.arrow(Point(265, 124), Point(265, 61), "saved")
    picture.words(Point(272, 96), "ResultsSaved", "saved", anchor="start", is_code=True)

    picture.arrow(Point(180, 168), Point(62, 239))
    picture.words(Point(108, 196), "RunChunk", anchor="end", is_code=True)
    picture.arrow(Point(176, 240), Point(210, 169), "ours")
    picture.words(Point(200, 218), "CallsFinished", "ours", anchor="start", is_code=True)
    picture.arrow(Point(296, 168), Point(350, 239))
    picture.words(Point(332, 192), "SaveResults", anchor="start", is_code=True)
    picture.curve([Point(420, 240), Point(420, 146), Point(316, 146)], "saved", has_head=True)
    picture.words(Point(322, 138), "ResultsSaved", "saved", anchor="start", is_code=True)

    for x in (16, 128):
        picture.arrow(Point(x + 40, 284), Point(x + 40, 355))
        picture.arrow(Point(x + 58, 356), Point(x + 58, 285), "ours")
        picture.box(Point(x, 356), Point(96, 44), ["child", "runs f(x, y)"])
    picture.words(Point(120, 322), "a socket\neach", "soft")
    picture.arrow(Point(378, 284), Point(378, 355), "saved")
    picture.words(Point(384, 326), "append, fsync", "saved", anchor="start")
    picture.box(Point(302, 356), Point(152, 44), ["checkpoint.pkl", "appended to"], edge="saved")
    picture.words(Point(120, 424), "killed, out of memory:\nits calls run again", "soft")
    picture.words(Point(378, 424), "what is in here\nis never computed again", "soft")
    return picture


LANES = {"your thread": 52, "Writer": 160, "Supervisor": 270, "Worker": 378, "child": 482}
STEPS = [
    ("Supervisor", "Worker", "JoinRun", "ink"),
    ("Worker", "Supervisor", "WorkerReady", "ours"),
    ("Supervisor", "Worker", "RunChunk", "ink"),
    ("Worker", "child", "a pickle", "ink"),
    ("child", "child", "f(1, 4)", "ink"),
    ("child", "Worker", "a pickle", "ours"),
    ("Worker", "Supervisor", "CallsFinished", "ours"),
    ("Supervisor", "Writer", "SaveResults", "ink"),
    ("Writer", "Writer", "Flush: write, fsync", "saved"),
    ("Writer", "Supervisor", "ResultsSaved", "saved"),
    ("Supervisor", "your thread", "ResultsSaved: on_result, the bar", "saved"),
]
"""Who tells whom what; the chapter on actors explains each by its number."""


def life_of_a_call() -> Canvas:
    """Draw one call as messages between lanes, from top to bottom."""
    step, top = 38, 66
    height = top + step * len(STEPS) + 8
    picture = Canvas("One call, message by message, from JoinRun to on_result", 530, height)
    for name, x in LANES.items():
        picture.line(Point(x, 40), Point(x, height - 4), is_dashed=True)
        is_actor = name in {"Writer", "Supervisor", "Worker"}
        picture.box(
            Point(x - 47, 8),
            Point(94, 30),
            [name],
            edge="ours" if is_actor else "line",
            fill="tint" if is_actor else "box",
        )
    for number, (sender, receiver, what, colour) in enumerate(STEPS, 1):
        _message(picture, number, (LANES[sender], LANES[receiver], top + step * number - 14), what, colour)
    return picture


def _message(picture: Canvas, number: int, where: tuple[float, float, float], what: str, colour: str) -> None:
    """Draw one message; one to oneself is a loop."""
    start, end, y = where
    if start == end:
        side = -1 if start > LANES["Worker"] else 1
        picture.curve(
            [
                Point(start, y - 10),
                Point(start + 22 * side, y - 10),
                Point(start + 22 * side, y + 4),
                Point(start + 3 * side, y + 4),
            ],
            colour,
            has_head=True,
        )
        picture.words(
            Point(start + 28 * side, y), what, colour, anchor="end" if side < 0 else "start", is_code=True
        )
        picture.number(Point(start, y - 10), number)
        return
    direction = 1 if end > start else -1
    picture.arrow(Point(start, y), Point(end - 2 * direction, y), colour)
    middle = (start + end) / 2 + 7 * direction
    picture.words(Point(middle, y - 6), what, colour, is_code=what != "a pickle")
    picture.number(Point(start, y), number)


def layout_of_the_file() -> Canvas:
    """Draw the file from left to right, and below it what a record and a group are made of."""
    picture = Canvas(
        "The file: a header in plain bytes, a head that is a pickle, then records and groups of records, appended as"
        " calls end",
        480,
        366,
    )
    picture.words(Point(8, 20), "checkpoint.pkl", anchor="start", size=13, is_bold=True, is_code=True)
    strip = [
        (8, 74, ["header", f"{HEADER_SIZE} bytes"], "tint", "ours"),
        (82, 110, ["head", "a pickle"], "box", "line"),
        (192, 72, ["record", "one call"], "box", "saved"),
        (264, 100, ["group", "many calls"], "box", "saved"),
        (364, 60, ["record", ""], "box", "saved"),
        (424, 48, ["torn", "tail"], "none", "lost"),
    ]
    for x, width, lines, fill, edge in strip:
        picture.box(Point(x, 30), Point(width, 48), lines, fill=fill, edge=edge, is_dashed=edge == "lost")
    picture.words(Point(50, 98), "whose file,\nhow many calls,\nwho writes now", "soft")
    picture.words(Point(137, 98), "function,\nparameters,\nolder results", "soft")
    picture.arrow(Point(196, 98), Point(414, 98), "saved")
    picture.words(Point(308, 116), "appended: one write and one\nfsync for all that wait", "saved")
    picture.words(Point(448, 98), "cut off\nby the\nnext run", "lost")

    picture.words(Point(8, 166), "a record", anchor="start", size=13, is_bold=True)
    picture.box(
        Point(8, 176),
        Point(300, 48),
        [f"its head, {RECORD_SIZE} bytes", "index, seconds, length, two checksums"],
    )
    picture.box(Point(308, 176), Point(164, 48), ["payload", "the result's pickle"], edge="saved")

    picture.words(Point(8, 264), "a group", anchor="start", size=13, is_bold=True)
    parts = [
        (8, 56, ["head", f"{RECORD_SIZE} B"], "line"),
        (64, 96, ["columns", "where, sums"], "ours"),
        (160, 48, ["pickle"], "saved"),
        (208, 48, ["pickle"], "saved"),
        (256, 64, ["..."], "saved"),
        (320, 56, ["head", f"{RECORD_SIZE} B"], "line"),
        (376, 96, ["columns", "the same again"], "ours"),
    ]
    for x, width, lines, edge in parts:
        picture.box(Point(x, 274), Point(width, 48), lines, edge=edge)
    picture.words(
        Point(8, 344),
        "each pickle has a checksum of its own: a flipped bit costs one result\nthe columns stand at both ends: a damaged one is read from the other",
        "soft",
        anchor="start",
    )
    return picture
