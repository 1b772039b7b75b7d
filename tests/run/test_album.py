import torch

from bench.run.album import FileAlbum


def images(*values: float) -> torch.Tensor:
    return torch.stack([torch.full((1, 3, 3), value) for value in values])


def test_the_next_process_finds_what_was_saved_and_nothing_else(tmp_path):
    album = FileAlbum(tmp_path / "new")
    album.take(torch.tensor([7, 3]), images(0.7, 0.3))
    album.save("apgd-t")
    album.take(torch.tensor([9]), images(0.9))
    album.save("apgd")
    album.take(torch.tensor([4]), images(0.4))
    again = FileAlbum(tmp_path / "new")
    assert again.holds("apgd-t") == {3, 7}
    assert again.holds("apgd") == {9}
    assert again.holds("square") == set()
    assert {number: float(image[0, 0, 0]) for number, image in again.load("apgd-t").items()} == {
        7: float(torch.tensor(0.7)),
        3: float(torch.tensor(0.3)),
    }


def test_of_two_images_of_one_number_the_first_is_kept(tmp_path):
    album = FileAlbum(tmp_path)
    album.take(torch.tensor([2, 2]), images(0.1, 0.2))
    album.take(torch.tensor([2]), images(0.3))
    album.save("square")
    assert album.load("square")[2].max() == torch.tensor(0.1)


def test_nothing_is_written_where_nothing_fell(tmp_path):
    FileAlbum(tmp_path / "new").save("square")
    assert not (tmp_path / "new").exists()


def test_a_damaged_shard_is_not_held(tmp_path):
    album = FileAlbum(tmp_path)
    for number in (1, 2):
        album.take(torch.tensor([number]), images(0.1))
        album.save("square")
    (tmp_path / "square-1.npz").write_bytes(b"PK\x03\x04 and no more")
    assert FileAlbum(tmp_path).holds("square") == {2}
