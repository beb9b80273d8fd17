import numpy as np

from isoflop.task.generate.connectivity import Connectivity


def test_the_verdict_is_that_of_the_adjacency_matrix():
    verdicts = []
    for index in range(100):
        e = Connectivity().problem("test", index)
        *edges, ends = e.prompt[:-1].split()
        reach = np.eye(8, dtype=int)
        for a, b in edges:
            reach[ord(a) - 97, ord(b) - 97] = 1
        reached = np.linalg.matrix_power(reach, 8)[ord(ends[0]) - 97, ord(ends[1]) - 97] > 0
        assert e.answer == ("y" if reached else "n")
        verdicts.append(reached)
    assert 30 < sum(verdicts) < 70


def test_steps_must_be_new_nodes_that_an_edge_leads_to():
    assert Connectivity().check_steps("ab bc ca ac:", "bcy\n") == [True, True, True]
    assert Connectivity().check_steps("ab bc ca ac:", "bbn\n") == [True, False, False]
    assert Connectivity().check_steps("ab bc cb ac:", "cy\n") == [False, True]  # b was left out
