"""Eight real posteriors: what NUTS says, what rdmc says, and the truth where it is known; see README.md."""
