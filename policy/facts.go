package policy

import (
	"net/netip"
	"slices"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/deputy-id/deputy/identity"
)

// facts are all that the policies of one decision may read. There is at most one of each entity type in them: the
// agent, the user, the application, the tool. Which of them is principal and which resource follows from the action.
//
// They are read by two evaluators: by predicates (predicate.go) as they are, and by Cedar's own as the values that
// cedar.go makes of them. Both get them through the tables of attributes.go and through nothing else.
type facts struct {
	act   action
	now   identity.Instant
	agent *identity.Agent
	user  *identity.Principal // on whose behalf, or who lends; nil: nobody
	tool  *Tool
	// application is the one that the decision is about right now; never nil. applications are all of them.
	application  *identity.Application
	applications []*identity.Application

	requested, defaults identity.Scopes
	depth               int64
	parent              string
	trigger             string
	seconds, hops       int64
	source              netip.Addr // the zero Addr where it is not known
	arguments           string
	approval            bool

	names, tags []string // of the applications; listed is whether they have been gathered
	listed      bool
	room        [8]string                // for both, as a rule
	only        [1]*identity.Application // room for applications where there is one
	issuer      identity.Application     // room for what is none: see nowhere

	needs *needs      // what policies read of the facts as Cedar's values; nil: everything
	cedar *cedarFacts // the same as Cedar's values, where a policy needed them
}

// nowhere is the application of what is none: a session for the issuer itself, which a hop may have from its parent
// beside applications.
func (f *facts) nowhere(g *Grant) *identity.Application {
	f.issuer.Verification = identity.VerifyOnline
	for _, uri := range g.session.Audience {
		if !slices.ContainsFunc(g.applications, func(a *identity.Application) bool { return a.Audience == uri }) {
			f.issuer.Audience = uri
			break
		}
	}
	return &f.issuer
}

// about turns to another of the applications.
func (f *facts) about(a *identity.Application) {
	f.application = a
	if f.cedar != nil {
		f.cedar.resource = nil
	}
}

// approved answers with another approval than the request has.
func (f *facts) approved(yes bool) {
	f.approval = yes
	if f.cedar != nil {
		f.cedar.context = nil
	}
}

// list gathers names and tags of the applications, at most once.
func (f *facts) list() {
	if f.listed {
		return
	}
	f.listed = true
	n := len(f.applications)
	if 2*n > len(f.room) {
		f.names, f.tags = make([]string, 0, n), make([]string, 0, 2*n)
	} else {
		f.names, f.tags = f.room[:0:n], f.room[n:n]
	}
	for _, a := range f.applications {
		f.names = append(f.names, a.Name)
		for _, tag := range a.Tags {
			if !slices.Contains(f.tags, tag) {
				f.tags = append(f.tags, tag)
			}
		}
	}
}

// hour and weekday are in UTC.
func (f *facts) hour() int64 { return f.now.Unix() / 3600 % 24 }

func (f *facts) weekday() int64 {
	const epochWeekday = 3 // 1 January 1970 was a Thursday: three days after a Monday
	return (f.now.Unix()/86400+epochWeekday)%7 + 1
}

// address is what Cedar calls one: a range of a single address.
func (f *facts) address() types.IPAddr {
	return types.IPAddr(netip.PrefixFrom(f.source, f.source.BitLen()))
}

// texts are a set of strings, in one of the two forms that the domain has. Repeats do no harm.
type texts struct {
	scopes identity.Scopes
	list   []string
}

func (t texts) contains(text string) bool {
	return t.scopes.Contains(text) || slices.Contains(t.list, text)
}

func (t texts) isEmpty() bool { return t.scopes == "" && len(t.list) == 0 }

// containsAll reports whether each of other is in the set.
func (t texts) containsAll(other texts) bool {
	if len(t.list) == 0 && len(other.list) == 0 {
		return other.scopes.SubsetOf(t.scopes)
	}
	for name := range other.scopes.All() {
		if !t.contains(name) {
			return false
		}
	}
	for _, name := range other.list {
		if !t.contains(name) {
			return false
		}
	}
	return true
}

// containsAny reports whether one of other is in the set.
func (t texts) containsAny(other texts) bool {
	for name := range other.scopes.All() {
		if t.contains(name) {
			return true
		}
	}
	return slices.ContainsFunc(other.list, t.contains)
}
