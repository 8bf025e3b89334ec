// Package mutants checks the checks: it breaks ten safety rules on purpose, one after the other, and expects the
// tests to notice each.
//
// A mutant is an edit of one source file of production code. It is applied to a copy, which `go test -overlay` puts
// in the place of the original, so that the tree is never touched. Before that the same tests must pass on the code
// as it is. A mutant is caught if a test fails; one that does not compile, or whose tests hang, is not caught. An
// edit whose text is not found exactly once is outdated, which is a failure of its own: TestEveryMutantStillApplies
// says so with all other tests.
//
// The check itself takes minutes, so it runs where DEPUTY_MUTANTS=1 is set, as `make mutants` does. Where
// DEPUTY_MUTANT is set to a part of a name, only those run.
package mutants
