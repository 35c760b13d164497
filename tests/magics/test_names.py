from sglnb.magics.names import lend, snapshot


def test_lent_names_are_taken_back():
    mine = object()
    space = {"user": mine, "x": 1}
    with lend(space, {"user": "lent", "gen": "lent"}):
        assert space["user"] == space["gen"] == "lent"
        space["y"] = 2
    assert space == {"user": mine, "x": 1, "y": 2}


def test_a_name_assigned_in_the_cell_stays():
    space = {}
    with lend(space, {"user": "lent", "s": "state"}):
        space["user"] = "Ann"
        del space["s"]
    assert space == {"user": "Ann"}


def test_names_come_back_after_an_error():
    space = {"s": 1}
    try:
        with lend(space, {"s": "state"}):
            raise KeyError
    except KeyError:
        pass
    assert space == {"s": 1}


def test_a_snapshot_keeps_to_itself_until_its_end():
    space = {"x": 1, "y": 1}
    with snapshot(space, {"s": "state"}) as scope:
        scope["x"] = 2
        space["y"] = 3  # another cell
        assert "s" not in space
        assert space["x"] == 1
    assert space == {"x": 2, "y": 3}
