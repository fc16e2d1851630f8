"""`persona ui`: a page on this computer that shows a repository and changes it by the same verbs as the command line."""
