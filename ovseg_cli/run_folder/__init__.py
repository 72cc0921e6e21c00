"""What lies in an output folder: its files and notes, who may write there, how runs are joined."""
