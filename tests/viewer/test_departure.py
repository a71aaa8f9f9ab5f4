"""The viewer's mark of a slide that is outside what the weights learned."""

from monai_iste.networks.learned_range import LearnedRange


def test_the_page_is_told_of_slides_outside_the_range(client, viewer):
    (image,) = client.get("/api/images").json()
    assert client.get(f"/api/departure/{image['id']}").json() == {"departure": ""}  # a range that is not known
    viewer.learned = LearnedRange((2.0, 4.0), (0, 1), 100)
    text = client.get(f"/api/departure/{image['id']}").json()["departure"]
    assert text.startswith("outside what the weights learned: pixels of 0.5 um (learned: 2 to 4)")
    viewer.learned = LearnedRange((0.25, 4.0), (0, 1), 100)
    assert client.get(f"/api/departure/{image['id']}").json() == {"departure": ""}


def test_unknown_slides_are_refused(client):
    assert client.get("/api/departure/none").status_code == 404
