package fsm

import (
	"github.com/deputy-id/deputy/identity"
)

const (
	closedByRestore = "a restore is under way"

	// generationLeap is what a restore adds to the backup's generation counter: more than the lost cluster can have
	// drawn between the backup and its end, so that nothing is ever given a generation that was killed there.
	generationLeap = 1 << 20

	// maxGeneration is where a backup's counter can't be, as no cluster gets there, and below the end of the numbers
	// by more than any number of leaps.
	maxGeneration = 1 << 62

	// backupAhead is how far a backup's time may be ahead of this cluster's: clocks differ, but a backup is of the
	// past. FSM time never goes back, and no node may speak until its clock has caught up.
	backupAhead = maxSkew
)

// restoring is a restore that was begun and not ended. Imports come in the order of the backup, so that none can be
// there twice, or be left over from an attempt before.
type restoring struct {
	Backup    BackupHeader `codec:"b"`
	Records   int          `codec:"r"`
	Section   section      `codec:"s,omitempty"` // of the last record
	Key       []byte       `codec:"k,omitempty"` // of the last record
	APITokens []string     `codec:"t,omitempty"` // imported so far, by id, to be dropped where it starts over
}

func restoreUnderWay(why string) *identity.Error {
	return identity.Errorf(identity.CodeConflict, "a restore is under way: %s", why).
		WithHint("wait until it has ended, or begin it again: deputy cluster snapshot restore FILE")
}

func noRestore() *identity.Error {
	return identity.Errorf(identity.CodeConflict, "no restore is under way").
		WithHint("begin one: deputy cluster snapshot restore FILE")
}

// fills reports whether a command makes, or makes usable, what a restore is about to bring.
func fills(b Body) bool {
	switch b := b.(type) {
	case SetAgentStatus:
		return b.Status == identity.StatusActive
	case SetPrincipalStatus:
		return b.Status == identity.StatusActive
	case CreateAgent, UpdateAgent, AddCredential, CreatePrincipal, UpdatePrincipal, CreateApplication, UpdateApplication, CreateDelegation,
		PutPolicy, SetPolicyMode, DeletePolicy, RequestApproval:
		return true
	}
	return false
}

func (s *state) beginRestore(b BeginRestore) *identity.Error {
	switch {
	case s.restoring == nil && (s.agents.len() > 0 || s.principals.len() > 0 || s.applications.len() > 0 || s.delegations.byID.len() > 0):
		return identity.Errorf(identity.CodeConflict, "the cluster already holds agents, principals, applications or delegations").
			WithHint("restore into a fresh cluster: start one with an empty data folder and bootstrap: true")
	case b.Backup.Time > after(s.time, backupAhead):
		return invalid("the backup was taken at %s, which is later than this cluster's time %s; set this machine's clock", b.Backup.Time, s.time)
	case b.Backup.Generation > maxGeneration:
		return invalid("the backup has a generation counter that no cluster ever reaches")
	}
	s.forgetPolicies(b.Backup)
	s.forgetApprovals()
	s.forgetImported()
	s.time = max(s.time, b.Backup.Time)
	// Now rather than at the end, so that nothing that is stopped meanwhile gets a generation of the backup's.
	s.generation = max(s.generation, b.Backup.Generation) + generationLeap
	s.horizon.raise(b.Backup.Horizon.TokenSeconds, b.Backup.Horizon.LeaseMillis)
	s.restoring, s.closed = &restoring{Backup: b.Backup}, closedByRestore
	s.forgotten = s.time // nobody here knows what the lost cluster deleted since the backup
	return nil
}

// forgetImported empties what a restore fills, with what deleted names have left behind. Revocations stay: what is
// dead stays dead.
func (s *state) forgetImported() {
	empty := newState(s.set)
	s.seed = empty.seed
	s.agents, s.principals = empty.agents, empty.principals
	s.applications, s.audiences, s.scopes, s.owners = empty.applications, empty.audiences, empty.scopes, empty.owners
	s.delegations, s.bars, s.gone = empty.delegations, empty.bars, nil
	if s.restoring == nil {
		return
	}
	for _, id := range s.restoring.APITokens {
		if t, ok := first[identity.APIToken](s.rows(), tableAPITokens, indexID, id); ok {
			s.dropAPIToken(t)
		}
	}
}

// endRestore takes over the backup's settings, and keeps what is this cluster's own: its id, its gossip keys, its
// members and their keys. Command ids of before are forgotten: what they were about is not there any more.
func (s *state) endRestore(b EndRestore) (*Imported, *identity.Error) {
	done := s.restoring
	if done == nil {
		return nil, noRestore()
	}
	if b.Records != done.Records {
		return nil, identity.Errorf(identity.CodeConflict, "the backup has %d records, and %d were imported", b.Records, done.Records).
			WithHint("begin the restore again: deputy cluster snapshot restore FILE")
	}
	of, next := done.Backup.Settings, *s.settings
	next.Issuer, next.ExternalURLs, next.OfflineTTLSeconds, next.LeaseMillis = of.Issuer, of.ExternalURLs, of.OfflineTTLSeconds, of.LeaseMillis
	s.changeSettings(&next)
	s.internal, s.clients = newWindow(internalAge), newWindow(clientKeyAge)
	s.restoring = nil
	s.closed = "the cluster was restored from a backup of " + done.Backup.Time.String()
	return &Imported{Records: done.Records}, nil
}
