package fsm

import (
	"slices"
	"strconv"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

const keyPrefix = "key_"

// maxLeap is how far a revoked handle may move the FSM-wide counter: more than a cluster ever draws, and too
// little to reach its end.
const maxLeap = 1 << 40

func isKey(h identity.Handle) bool { return strings.HasPrefix(string(h), keyPrefix) }

func (s *state) revoke(b Revoke) (*Revoked, *identity.Error) {
	switch {
	case len(b.Handles) == 0:
		return nil, invalid("there is no handle to revoke")
	case len(b.Handles) > MaxRevoke:
		return nil, identity.Errorf(identity.CodeTooLarge, "%d handles at once; at most %d are allowed", len(b.Handles), MaxRevoke)
	}
	for _, h := range b.Handles {
		if h == "" || len(h) > identity.MaxHandleLength {
			return nil, invalid("a handle has %d characters; it must have 1 to %d", len(h), identity.MaxHandleLength)
		}
		if generation := generationOf(h); generation > s.generation+maxLeap || generation+maxLeap < generation {
			return nil, invalid("handle %q has a generation that no agent or principal ever had", h)
		}
	}
	result := &Revoked{Handles: slices.Clip(b.Handles), Known: true}
	replay := b.Replay || s.closed != ""
	for _, h := range b.Handles {
		// After a restore from an old backup a handle may be of a generation that is yet to come here. It is
		// dead, so nobody may be given it.
		s.generation = max(s.generation, generationOf(h))
		before := s.isRevoked(h)
		s.deny(b.Reason, h)
		known, more := s.end(h, replay, b.Reason)
		result.Known = result.Known && (known || before)
		result.Handles = append(result.Handles, more...)
	}
	return result, nil
}

// end ends what a handle names, so that it stays dead when the entry is forgotten: an entry lasts as long as
// tokens do, while a delegation, a credential, an API token or a generation could be used for new tokens after that.
// It returns what else it had to deny for that.
func (s *state) end(h identity.Handle, replay bool, reason string) (known bool, denied []identity.Handle) {
	text := string(h)
	prefix, rest, _ := strings.Cut(text, "_")
	switch prefix + "_" {
	case identity.PrefixDelegation:
		r, p, ok := s.liveRecord(text)
		if ok {
			s.withdraw(r, p)
		}
		return ok, nil
	case identity.PrefixCredential:
		return s.dropCredential(text), nil
	case identity.PrefixAPIToken:
		return s.endAPIToken(text), nil
	case keyPrefix:
		return s.dropKey(rest), nil
	case "agt_":
		name, generation := splitGeneration(rest)
		row, err := s.agent(name)
		if err != nil || generation == 0 {
			return false, nil
		}
		known = generation <= row.Generation
		return known, s.stopAgent(row, generation, replay, reason)
	case "usr_":
		id, generation := splitGeneration(rest)
		row, err := s.principal(id)
		if err != nil || generation == 0 {
			return false, nil
		}
		known = generation <= row.Generation
		return known, s.stopPrincipal(row, generation, replay, reason)
	default: // a session lives in its token
		return false, nil
	}
}

// stopAgent moves an agent on from a generation that is denied. It is killed where the handle is replayed after a
// restore, or is of a generation that the agent has yet to reach here: whoever was stopped after the backup must not
// come back to life as what the backup has. The handle of the older generation is returned, as it is denied, too.
func (s *state) stopAgent(row *agentRow, generation uint64, replay bool, reason string) (denied []identity.Handle) {
	if generation < row.Generation {
		return nil
	}
	ahead := generation > row.Generation
	if (replay || ahead) && row.Status == identity.StatusActive {
		row.Status = identity.StatusSuspended
	}
	if ahead {
		denied = s.endGeneration(row, reason)
	} else {
		row.Generation = s.nextGeneration()
	}
	s.putAgent(row)
	return denied
}

// stopPrincipal is stopAgent for a principal, whose kill takes back their consent as well.
func (s *state) stopPrincipal(row *principalRow, generation uint64, replay bool, reason string) (denied []identity.Handle) {
	if generation < row.Generation {
		return nil
	}
	ahead := generation > row.Generation
	if (replay || ahead) && row.Status == identity.StatusActive {
		row.Status = identity.StatusSuspended
	}
	if ahead {
		denied = s.endPrincipalGeneration(row, reason)
	} else {
		row.Generation = s.nextGeneration()
	}
	if replay || ahead {
		row.killed, row.killedAt = row.Generation, s.time
	}
	s.putPrincipal(row)
	return denied
}

// generationOf returns the generation in the handle of an agent or a principal, and 0 for any other.
func generationOf(h identity.Handle) uint64 {
	text := string(h)
	if !strings.HasPrefix(text, "agt_") && !strings.HasPrefix(text, "usr_") {
		return 0
	}
	_, generation := splitGeneration(text)
	return generation
}

// splitGeneration takes NAME#7 apart; text of another shape gives generation 0, which nothing has.
func splitGeneration(text string) (name string, generation uint64) {
	i := strings.LastIndexByte(text, '#')
	if i < 0 {
		return text, 0
	}
	generation, err := strconv.ParseUint(text[i+1:], 10, 64)
	if err != nil {
		return text, 0
	}
	return text[:i], generation
}
