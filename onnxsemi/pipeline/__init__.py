"""The stages in order: the only room that knows it.

    read -> load data -> Δloss -> search -> emit -> verify -> report
"""
