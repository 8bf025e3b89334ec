// Package sim is a laboratory for faults: whole clusters in one process and in virtual time (internal/virtualtime),
// made of the real state machine, lease, fence, revocation set, minter and verifier on the real hashicorp/raft,
// over a network, disks and clocks that misbehave by a seeded schedule.
//
// What is real: fsm.FSM, cluster.Lease, cluster.Ticks, cluster.Grants, cluster.Fences, revocation.Set,
// policy.Engine, tokens.Minter and tokens.Verifier, and raft itself. What is mirrored, as small as it could be
// kept, is what package server wires them with: node.go says of each piece which function of server it stands
// for. What is not here at all: TCP, TLS, memberlist, HTTP, boltdb; tests over real binaries have those.
//
// A schedule is the faults that one seed gives. Raft draws its election timeouts from a source of its own, so
// the seed replays the faults and not the whole run; a schedule that breaks a promise therefore keeps its
// history, every event with its virtual time. The promises are listed at the top of ledger.go.
//
// Environment of the tests:
//
//	DEPUTY_SIM_SCHEDULES  how many schedules to run; by default 150, or as many as 20 seconds allow
//	DEPUTY_SIM_SEED       the first seed; by default 1
//	DEPUTY_SIM_FAILURES   where histories of broken promises go; by default testdata/failures
package sim
