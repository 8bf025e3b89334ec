package fsm

import (
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
	result := &Revoked{Handles: b.Handles, Known: true}
	for _, h := range b.Handles {
		// After a restore from an old backup a handle may be of a generation that is yet to come here. It is
		// dead, so nobody may be given it.
		s.generation = max(s.generation, generationOf(h))
		before := s.isRevoked(h)
		s.deny(b.Reason, h)
		known := s.end(string(h), b.Replay)
		result.Known = result.Known && (known || before)
	}
	return result, nil
}

// end ends what a handle names, so that it stays dead when the entry is forgotten: an entry lasts as long as
// tokens do, while a delegation, a credential, an API token or a generation could be used for new tokens after that.
//
// An agent or principal at that generation gets the next one. It is stopped altogether where the handle is replayed
// after a restore, or is of a generation that it has yet to reach here: whoever was stopped after the backup must
// not come back to life as what the backup has.
func (s *state) end(h string, replay bool) (known bool) {
	prefix, rest, _ := strings.Cut(h, "_")
	switch prefix + "_" {
	case identity.PrefixDelegation:
		r, p, ok := s.liveRecord(h)
		if ok {
			s.withdraw(r, p)
		}
		return ok
	case identity.PrefixCredential:
		return s.dropCredential(h)
	case identity.PrefixAPIToken:
		return s.endAPIToken(h)
	case keyPrefix:
		return s.dropKey(rest)
	case "agt_":
		name, generation := splitGeneration(rest)
		row, err := s.agent(name)
		if err != nil || generation == 0 {
			return false
		}
		known = generation <= row.Generation
		if row.Generation <= generation {
			if (replay || !known) && row.Status == identity.StatusActive {
				row.Status = identity.StatusSuspended
			}
			row.Generation = s.nextGeneration()
			s.putAgent(row)
		}
		return known
	case "usr_":
		id, generation := splitGeneration(rest)
		row, err := s.principal(id)
		if err != nil || generation == 0 {
			return false
		}
		known = generation <= row.Generation
		if row.Generation <= generation {
			if (replay || !known) && row.Status == identity.StatusActive {
				row.Status = identity.StatusSuspended
			}
			row.Generation = s.nextGeneration()
			if replay || !known {
				row.killed, row.killedAt = row.Generation, s.time // and their consent is withdrawn
			}
			s.putPrincipal(row)
		}
		return known
	default: // a session lives in its token
		return false
	}
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
