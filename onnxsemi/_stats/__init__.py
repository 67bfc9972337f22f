"""What images show: metrics, paired comparisons and their intervals."""
