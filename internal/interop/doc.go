// Package interop drives the real binary with clients that were written elsewhere: the OAuth libraries that services
// and agent runtimes use already, and the project's own client for Python, which lives in sdk/python.
//
// It is tests only, and they run with all others. What a library promises its users is what counts here: a test
// fails where one of them has to be told that Deputy is different. The examples of docs/clients.md and of
// sdk/python/README.md are run as they stand there.
//
// Python is needed for a part of it, and Debian's python3-authlib for a part of that; where either is missing those
// tests are skipped with the reason, but not where CI=true is set: there they must run.
//
//	DEPUTY_BIN  a binary to use; by default one is built
//
// Nodes listen on loopback ports that the kernel chose, every wait has a bound, and each process is ended by the id
// under which it was started.
package interop
