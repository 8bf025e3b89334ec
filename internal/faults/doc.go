// Package faults drives clusters of real binaries from outside, as an operator and as a careless machine would:
// processes are started, killed without warning, restarted, joined and removed, under load and over HTTP.
//
// It is tests only. They take minutes, so they run where DEPUTY_FAULTS=1 is set, as `make faults` and .ci/run
// do. Environment:
//
//	DEPUTY_FAULTS        1 runs them
//	DEPUTY_FAULT_ROUNDS  kills per test, 20 by default
//	DEPUTY_FAULT_SEED    seed of what is killed when; printed by every run
//	DEPUTY_BIN           a binary to use; by default one is built
//
// Nothing needs root, everything listens on loopback, every wait has a bound, and each process is ended by the
// id under which it was started.
package faults
