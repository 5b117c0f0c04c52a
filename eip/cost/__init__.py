"""What messages cost: price lists, and the bill of metered calls."""

from eip.cost.bill import Bill as Bill
from eip.cost.bill import Line as Line
from eip.cost.bill import bill as bill
from eip.cost.prices import Prices as Prices
from eip.cost.prices import price_lists as price_lists
from eip.cost.prices import prices as prices

__all__ = ["Bill", "Line", "Prices", "bill", "price_lists", "prices"]
