// Package faults drives clusters of real binaries from outside, as an operator and as a careless machine would:
// processes are started, killed without warning, paused, restarted, cut off, joined and removed, their disks filled
// and their packets lost, under load and over HTTP.
//
// It is tests only, in three tiers. Each test that measures something ends with one line that begins with "==".
//
// Tests that need nothing run always: those of the judges that the others trust, and the short form of the
// robustness suite, over servers in one process whose links can be cut.
//
// Kills, joins and restarts take minutes and run where DEPUTY_FAULTS=1 is set, as `make faults` and .ci/run do.
// They need no root, and everything listens on loopback.
//
// The robustness suite runs where DEPUTY_ROBUSTNESS=1 is set, as `make robustness` does. It needs root and Linux:
// the test binary runs itself once more in a network, mount and process namespace of its own and gives each node a
// network namespace in there. All of that is gone with the last of its processes, and nothing outside is touched.
//
//	DEPUTY_FAULT_ROUNDS       kills per test, 20 by default
//	DEPUTY_FAULT_NODES        nodes to kill from, 3 by default; of five, two at once
//	DEPUTY_ROBUSTNESS_ROUNDS  "full" for as many rounds as the promises ask for, or a number; few by default
//	DEPUTY_FAULT_SEED         seed of what happens when, as far as timing allows; printed by every run
//	DEPUTY_BIN                a binary to use; by default one is built
//
// Every wait has a bound, and each process is ended by the id under which it was started.
package faults
