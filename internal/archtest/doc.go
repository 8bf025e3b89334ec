// Package archtest holds the project to its floor plan: which package may import which, and a few habits
// that a compiler does not see. It is tests only; each failure names the file, the line, the rule and the
// reason for the rule, so that whoever trips over a fence learns why it stands there.
//
// The rules are data in rules_test.go. To change the floor plan is to change that file, in the open.
package archtest
