"""The page of `ncsnx page`: a server on this machine, one HTML file, and the processes that restore pictures.

The server (`server`) imports no torch. It hands pictures to `worker`, a process that speaks JSON lines, by way of
`restoring`, which keeps the jobs. What a browser asks for is checked by `asked`.
"""
