"""`conv1x1 bench`: how fast layers run here, next to this machine's limits, other libraries and another revision.

==============  ======================================================================
`cases`         what is measured: the well-known layers, or those of a file
`measure`       the turns, the roofs and the races: a layer becomes a `Row`
`results`       a `Row`, what a number of them come to, and all of it as JSON
`table`         what a person sees: the table, as text or Markdown
`progress`      the bar meanwhile
`roofline`      the same as a drawing
`peers`         the other libraries
`regression`    another revision of this package
`timing`        a layer, its arrays and the clock; as a script, a worker of `regression`
==============  ======================================================================
"""
