"""The cost of messages: price lists, the bill of metered calls, and advice before there are any."""

from eip.cost.advisor import Advice as Advice
from eip.cost.advisor import advise as advise
from eip.cost.alternatives import Alternative as Alternative
from eip.cost.alternatives import Item as Item
from eip.cost.bill import Bill as Bill
from eip.cost.bill import Line as Line
from eip.cost.bill import bill as bill
from eip.cost.computing import WorkflowCost as WorkflowCost
from eip.cost.computing import function_cost as function_cost
from eip.cost.computing import workflow_cost as workflow_cost
from eip.cost.prices import Prices as Prices
from eip.cost.prices import price_lists as price_lists
from eip.cost.prices import prices as prices
from eip.cost.profile import Profile as Profile
from eip.cost.services import facts as facts

__all__ = [
    "Advice",
    "Alternative",
    "Bill",
    "Item",
    "Line",
    "Prices",
    "Profile",
    "WorkflowCost",
    "advise",
    "bill",
    "facts",
    "function_cost",
    "price_lists",
    "prices",
    "workflow_cost",
]
