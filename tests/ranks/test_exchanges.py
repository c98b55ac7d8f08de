"""Exchanges of ranks that share work: orders of rank 0, streams of items, marks."""

import time

import pytest
import torch
from torch.distributed import TCPStore

from ncsnx.errors import NcsnxError
from ncsnx.ranks.rank_group import ALONE, OtherRankError, RankGroup
from tests.ranks.thread_ranks import in_ranks


def test_items_of_all_ranks_arrive_in_turn_at_rank_0() -> None:
    items = [f"item {number}" for number in range(11)]

    def work(ranks: RankGroup) -> list[str]:
        return list(ranks.merged(iter(items[ranks.rank :: ranks.world]), lambda: None))

    for world in (2, 3, 4, 12):
        found, *others = in_ranks(world, work)
        assert found == items
        assert others == [[]] * (world - 1)
    assert list(ALONE.merged(items, lambda: None)) == items


def test_a_fast_rank_sends_few_items_ahead_of_rank_0() -> None:
    begun: dict[int, int] = {0: 0, 1: 0}
    most_ahead = []

    def work(ranks: RankGroup) -> None:
        def own() -> "list[int]":
            for number in range(20):
                begun[ranks.rank] = number
                if ranks.is_first:
                    time.sleep(0.02)
                    most_ahead.append(begun[1] - number)
                yield number

        for _ in ranks.merged(own(), lambda: None):
            pass

    in_ranks(2, work)
    assert 1 <= max(most_ahead) <= 4


def test_a_value_longer_than_a_key_of_the_store_may_be_arrives_whole() -> None:
    value = torch.arange(1_500_000)  # 12 MB, 24 MB as text

    def work(ranks: RankGroup) -> list[torch.Tensor]:
        assert ranks.first(lambda: value).equal(value)
        return ranks.gather(value + ranks.rank, lambda: None)

    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    found, others = in_ranks(2, work, store=store)
    assert [one[0].item() for one in found] == [0, 1]
    assert found[1].equal(value + 1)
    assert others == []


def test_other_ranks_carry_out_the_orders_of_rank_0() -> None:
    def work(ranks: RankGroup) -> tuple[str | None, list[str]]:
        heard: list[str] = []

        def lead() -> str:
            for order in ("first", "second"):
                assert ranks.order(order) == order
            return "done"

        return ranks.lead(lead, heard.append, lambda: None), heard

    assert in_ranks(3, work) == [("done", []), (None, ["first", "second"]), (None, ["first", "second"])]
    assert work(ALONE) == ("done", [])


def test_an_error_of_rank_0_ends_the_ranks_that_wait_for_its_orders() -> None:
    def work(ranks: RankGroup) -> None:
        def lead() -> None:
            raise NcsnxError("no disk")

        ranks.lead(lead, lambda order: None, lambda: ranks.check_stop(None))

    first, other = in_ranks(2, work)
    assert str(first) == "no disk"
    assert isinstance(other, OtherRankError)


def test_rank_0_makes_what_the_others_find() -> None:
    order: list[int] = []

    def work(ranks: RankGroup) -> int:
        def make() -> int:
            if ranks.is_first:
                time.sleep(0.2)
            order.append(ranks.rank)
            return ranks.rank

        return ranks.in_turn(make, lambda: None)

    assert in_ranks(3, work) == [0, 1, 2]
    assert order[0] == 0


def test_a_wait_for_a_decision_has_a_limit_unless_it_looks_for_a_stop() -> None:
    def work(ranks: RankGroup) -> list[str]:
        def slow() -> str:
            time.sleep(1.5)
            return "decided"

        return [ranks.first(slow, check_stop=lambda: None), ranks.first(slow)]

    _, other = in_ranks(2, work, limit_s=1.0)
    assert isinstance(other, NcsnxError)
    assert "rank 0 of 2 did not answer within 1 seconds" in str(other)


@pytest.mark.parametrize(
    ("world", "images", "most", "size"), [(1, 3, 64, 64), (2, 1_000, 64, 64), (2, 64, 64, 32), (4, 6, 64, 2)]
)
def test_batches_are_smaller_where_ranks_would_have_none(world: int, images: int, most: int, size: int) -> None:
    assert RankGroup(None, 0, world).batch_size(images, most) == size
