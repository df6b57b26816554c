"""What is to be known of the number formats: facts, codes and values, told as pages of text. No torch.

`codes` says which numbers the bits of an element stand for, `facts` what follows from that, `spelling` how numbers are
written; `pages` is what `qsweep formats` prints, `document` is docs/formats.md.
"""

from qsweep.catalog.codes import MOST_VALUES, coding, values
from qsweep.catalog.facts import Facts, facts
from qsweep.catalog.pages import check_quoted, format_list, format_page

__all__ = ["MOST_VALUES", "Facts", "check_quoted", "coding", "facts", "format_list", "format_page", "values"]
