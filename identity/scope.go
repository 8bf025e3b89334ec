package identity

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Scopes is a set of OAuth scopes in one canonical spelling: sorted, unique, joined by single spaces.
//
// A string makes the set immutable, comparable and free to pass, and it is already the `scope` claim of a
// token (RFC 8693 section 4.2), so that the mint path neither sorts nor joins. JSON sees a list of strings.
// The zero value is the empty set.
type Scopes string

// NewScopes makes a set from names in any order, with repeats. Errors name the scope and the bound.
func NewScopes(names []string) (Scopes, error) {
	if len(names) > MaxScopes {
		return "", fmt.Errorf("has %d scopes; at most %d are allowed", len(names), MaxScopes)
	}
	for _, name := range names {
		if err := validScope(name); err != nil {
			return "", err
		}
	}
	if slices.IsSorted(names) && !hasRepeats(names) {
		return Scopes(strings.Join(names, " ")), nil
	}
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return Scopes(strings.Join(slices.Compact(sorted), " ")), nil
}

// ParseScopes reads the `scope` parameter of RFC 6749 section 3.3: names separated by single spaces.
func ParseScopes(parameter string) (Scopes, error) {
	if parameter == "" {
		return "", nil
	}
	if strings.Count(parameter, " ") >= MaxScopes {
		return "", fmt.Errorf("has more than %d scopes", MaxScopes)
	}
	return NewScopes(strings.Split(parameter, " "))
}

func hasRepeats(sorted []string) bool {
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return true
		}
	}
	return false
}

// validScope holds a scope to scope-token of RFC 6749 section 3.3: visible ASCII but for '"' and '\'.
func validScope(name string) error {
	if name == "" {
		return fmt.Errorf("holds an empty scope")
	}
	if len(name) > MaxScopeLength {
		return fmt.Errorf("scope %.40q… has %d characters; at most %d are allowed", name, len(name), MaxScopeLength)
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return fmt.Errorf(`scope %q holds %q; only visible ASCII without '"' and '\' is allowed (RFC 6749 section 3.3)`, name, c)
		}
	}
	return nil
}

// Len returns the number of scopes.
func (s Scopes) Len() int {
	if s == "" {
		return 0
	}
	return strings.Count(string(s), " ") + 1
}

// All yields the scopes in order.
func (s Scopes) All() iter.Seq[string] {
	return func(yield func(string) bool) {
		for rest := string(s); rest != ""; {
			var name string
			name, rest, _ = strings.Cut(rest, " ")
			if !yield(name) {
				return
			}
		}
	}
}

// List returns the scopes as a slice, never nil.
func (s Scopes) List() []string {
	if s == "" {
		return []string{}
	}
	return strings.Split(string(s), " ")
}

// Contains reports whether name is in the set.
func (s Scopes) Contains(name string) bool {
	for rest := string(s); rest != ""; {
		var have string
		have, rest, _ = strings.Cut(rest, " ")
		if have == name {
			return name != ""
		}
	}
	return false
}

// FirstOutside returns the first scope of s that is not in bound, or "" where s is a subset. Both sets are
// sorted, so one walk over each decides, without allocation.
func (s Scopes) FirstOutside(bound Scopes) string {
	if s == bound {
		return ""
	}
	limit := string(bound)
	for rest := string(s); rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, " ")
		found := false
		for limit != "" && !found {
			have, after, _ := strings.Cut(limit, " ")
			if have > name {
				break
			}
			limit, found = after, have == name
		}
		if !found {
			return name
		}
	}
	return ""
}

// SubsetOf reports whether every scope of s is in bound. The empty set is a subset of any.
func (s Scopes) SubsetOf(bound Scopes) bool { return s.FirstOutside(bound) == "" }

// MarshalJSON writes a list of strings.
func (s Scopes) MarshalJSON() ([]byte, error) { return json.Marshal(s.List()) }

// UnmarshalJSON reads a list of strings and holds it to the bounds of NewScopes.
func (s *Scopes) UnmarshalJSON(data []byte) error {
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return err
	}
	scopes, err := NewScopes(names)
	if err != nil {
		return err
	}
	*s = scopes
	return nil
}
