package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// violation is one broken rule, worded for whoever broke it.
type violation string

func (t *tree) violatef(s *source, i imported, rule, reason string) violation {
	kind := ""
	if s.test {
		kind = " (a test)"
	}
	return violation(fmt.Sprintf("%s%s imports %s\n\trule:   %s\n\treason: %s", t.at(i.pos), kind, i.path, rule, reason))
}

// fences checks every import against the floor plan.
func (t *tree) fences() []violation {
	var found []violation
	strangers := map[string]bool{}
	for _, s := range t.files {
		r := roomOf(s.dir)
		if r == nil {
			if !strangers[s.dir] {
				strangers[s.dir] = true
				found = append(found, violation(fmt.Sprintf("%s is in no room\n\trule:   every package has its place in internal/archtest/rules_test.go\n\treason: a package without a place has no fence, and soon everything goes through it", s.dir)))
			}
			continue
		}
		for _, i := range s.imports {
			found = append(found, t.check(r, s, i)...)
		}
	}
	return found
}

func (t *tree) check(r *room, s *source, i imported) []violation {
	var found []violation
	dir, ours := own(i.path)
	switch {
	case ours && !s.test:
		target := roomOf(dir)
		if target != r && (target == nil || !slices.Contains(r.mayImport, target.dir)) {
			found = append(found, t.violatef(s, i, r.dir+" may import "+orNothing(r.mayImport)+" of this project", r.reason))
		}
	case !ours && !standard(i.path) && !s.test:
		welcome := slices.ContainsFunc(besides[r.dir], func(module string) bool { return below(i.path, module) })
		if reason, ok := stdlibOnly[r.dir]; ok && !welcome {
			found = append(found, t.violatef(s, i, r.dir+" imports the standard library only", reason))
		}
	}
	if !s.test {
		if reason, ok := pure[r.dir]; ok && slices.Contains(noOutside, i.path) {
			found = append(found, t.violatef(s, i, r.dir+" does no I/O and reads neither clock nor die", reason))
		}
		if reason, ok := deterministic[r.dir]; ok && randomness(i.path) {
			found = append(found, t.violatef(s, i, r.dir+" is deterministic", reason))
		}
	}
	for _, limit := range restrictions {
		if !below(i.path, limit.path) || (s.test && (limit.alsoTests || slices.Contains(limit.testsOf, r.dir))) || slices.Contains(limit.rooms, r.dir) {
			continue
		}
		found = append(found, t.violatef(s, i, limit.path+" is for "+welcome(limit), limit.reason))
	}
	return found
}

func randomness(importPath string) bool {
	return below(importPath, "math/rand") || importPath == "crypto/rand"
}

func welcome(limit restricted) string {
	switch {
	case len(limit.rooms) == 0:
		return "tests only"
	case limit.alsoTests:
		return strings.Join(limit.rooms, ", ") + " and for tests"
	case len(limit.testsOf) > 0:
		return strings.Join(limit.rooms, ", ") + " and for tests of " + strings.Join(limit.testsOf, ", ") + " only"
	}
	return strings.Join(limit.rooms, ", ") + " only"
}

func orNothing(dirs []string) string {
	if len(dirs) == 0 {
		return "nothing"
	}
	return strings.Join(dirs, ", ")
}
