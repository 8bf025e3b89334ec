package fsm

import (
	"slices"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

const (
	closedByRestore = "a restore is under way"

	// generationLeap is what a restore adds to the backup's generation counter: more than the lost cluster can have
	// drawn between the backup and its end, so that nothing is ever given a generation that was killed there.
	generationLeap = 1 << 20

	// backupAhead is how far a backup's time may be ahead of this cluster's: clocks differ, but a backup is of the past.
	backupAhead = 60_000 // milliseconds
)

// restoring is a restore that was begun and not ended.
type restoring struct {
	Backup    BackupHeader `codec:"b"`
	Records   int          `codec:"r"`
	APITokens []string     `codec:"t,omitempty"` // imported so far, to be dropped where it starts over
}

func (s *state) beginRestore(b BeginRestore) *identity.Error {
	if s.restoring == nil && (s.agents.len() > 0 || s.principals.len() > 0 || s.applications.len() > 0 || s.delegations.byID.len() > 0) {
		return identity.Errorf(identity.CodeConflict, "the cluster already holds agents, principals, applications or delegations").
			WithHint("restore into a fresh cluster: start one with an empty data folder and bootstrap: true")
	}
	if b.Backup.Time > s.time+backupAhead {
		return invalid("the backup was taken at %s, which is later than this cluster's time %s; set this machine's clock", b.Backup.Time, s.time)
	}
	if b.Backup.Generation+generationLeap < b.Backup.Generation {
		return invalid("the backup's generation counter is at its end")
	}
	if s.restoring != nil {
		s.forgetImported()
	}
	s.generation = max(s.generation, b.Backup.Generation+generationLeap)
	s.horizon.raise(b.Backup.Horizon.TokenSeconds, b.Backup.Horizon.LeaseMillis)
	s.restoring, s.closed = &restoring{Backup: b.Backup}, closedByRestore
	return nil
}

// forgetImported empties what a restore fills. Revocations stay: what is dead stays dead.
func (s *state) forgetImported() {
	empty := newState(s.set)
	s.seed = empty.seed
	s.agents, s.principals = empty.agents, empty.principals
	s.applications, s.audiences, s.scopes, s.owners = empty.applications, empty.audiences, empty.scopes, empty.owners
	s.delegations, s.bars, s.gone = empty.delegations, empty.bars, nil
	for _, id := range s.restoring.APITokens {
		if t, ok := first[identity.APIToken](s.rows(), tableAPITokens, indexID, id); ok {
			s.dropAPIToken(t)
		}
	}
}

// importRecords takes all records of a frame or none, so that a refusal leaves the state as it was.
func (s *state) importRecords(b Import) (*Imported, *identity.Error) {
	if s.restoring == nil {
		return nil, identity.Errorf(identity.CodeConflict, "no restore is under way").WithHint("begin one: deputy cluster snapshot restore FILE")
	}
	if len(b.Records) > maxImport {
		return nil, identity.Errorf(identity.CodeTooLarge, "an import of %d bytes; at most %d are allowed", len(b.Records), maxImport)
	}
	i, err := decodeImport(section(b.Section), b.Records)
	if err != nil {
		return nil, invalid("%v", err)
	}
	if err := s.mayImport(i); err != nil {
		return nil, err
	}
	s.take(i)
	next := *s.restoring
	next.Records += i.records
	for _, t := range i.apiTokens {
		next.APITokens = append(slices.Clip(next.APITokens), t.ID)
	}
	s.restoring = &next
	return &Imported{Records: i.records}, nil
}

// mayImport holds the records to the state and to each other: nothing may be there twice, nor come from a
// generation that the backup's cluster had not reached.
func (s *state) mayImport(i *imported) *identity.Error {
	seen := make(map[string]struct{}, i.records)
	once := func(kind, id string, there bool) *identity.Error {
		if _, twice := seen[kind+id]; there || twice || id == "" {
			return invalid("the backup holds %s %.64q twice, or without an id", kind, id)
		}
		seen[kind+id] = struct{}{}
		return nil
	}
	credentials := func(list []identity.Credential) *identity.Error {
		for _, c := range list {
			_, there := find(s.owners.work, c.ID)
			if err := once("credential", c.ID, there); err != nil {
				return err
			}
		}
		return nil
	}
	most := s.restoring.Backup.Generation
	for _, w := range i.agents {
		if w.Agent == nil || w.Agent.Generation > most || w.Born > w.Agent.Generation {
			return invalid("the backup holds an agent of a generation that never was")
		}
		_, there := s.agents.find(w.Agent.Name)
		if err := once("agent", w.Agent.Name, there); err != nil {
			return err
		}
		if err := credentials(w.Agent.Credentials); err != nil {
			return err
		}
	}
	for _, w := range i.principals {
		if w.Principal == nil || w.Principal.Generation > most || w.Born > w.Principal.Generation || w.Killed > most {
			return invalid("the backup holds a principal of a generation that never was")
		}
		_, there := s.principals.find(w.Principal.ID)
		if err := once("principal", w.Principal.ID, there); err != nil {
			return err
		}
	}
	for _, a := range i.applications {
		_, there := find(s.applications.work, a.Name)
		if err := once("application", a.Name, there); err != nil {
			return err
		}
		_, there = find(s.audiences.work, a.Audience)
		if err := once("audience", a.Audience, there); err != nil {
			return err
		}
		for scope := range a.Scopes.All() {
			_, there := find(s.scopes.work, scope)
			if err := once("scope", scope, there); err != nil {
				return err
			}
		}
		if err := credentials(a.Credentials); err != nil {
			return err
		}
	}
	for _, r := range i.delegations {
		_, there := s.delegations.byID.get(r)
		if err := once("delegation", r.key(), there); err != nil {
			return err
		}
		if r.made > most {
			return invalid("the backup holds a delegation of a generation that never was")
		}
	}
	for _, r := range i.revocations {
		if r.Handle == "" || len(r.Handle) > identity.MaxHandleLength {
			return invalid("the backup holds a revocation without a handle that can be")
		}
	}
	return s.mayImportTokens(i.apiTokens, once)
}

func (s *state) mayImportTokens(tokens []*identity.APIToken, once func(kind, id string, there bool) *identity.Error) *identity.Error {
	if s.apiTokens+len(tokens) > MaxAPITokens {
		return limitReached("API tokens", MaxAPITokens)
	}
	for _, t := range tokens {
		_, there := first[identity.APIToken](s.rows(), tableAPITokens, indexID, t.ID)
		if err := once("API token", t.ID, there); err != nil {
			return err
		}
		if len(t.Hash) == 0 {
			return invalid("the backup holds an API token without a hash")
		}
		_, there = first[identity.APIToken](s.rows(), tableAPITokens, indexHash, string(t.Hash))
		if err := once("secret of an API token", string(t.Hash), there); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) take(i *imported) {
	for _, w := range i.agents {
		row := newAgentRow(*w.Agent, &s.texts)
		row.born, row.Revision = w.Born, s.index
		s.agents.set(row)
		for _, c := range row.Credentials {
			s.owners.set(named[Owner]{c.ID, Owner{OwnerAgent, row.Name}})
		}
		s.horizon.raise(row.MaxSessionSeconds, 0)
	}
	for _, w := range i.principals {
		row := &principalRow{Principal: *w.Principal, born: w.Born, killed: w.Killed, killedAt: w.KilledAt}
		row.Revision = s.index
		s.principals.set(row)
	}
	for _, a := range i.applications {
		a.Revision = s.index
		s.indexApplication(a)
		for _, c := range a.Credentials {
			s.owners.set(named[Owner]{c.ID, Owner{OwnerApplication, a.Name}})
		}
	}
	for _, r := range i.delegations {
		r.reason, r.revision = s.texts.intern(r.reason), s.index
		s.delegations.add(r)
	}
	for _, w := range i.bars {
		s.bars.set(bar{w.Principal, w.Agent, w.Made, w.Barred})
	}
	for _, r := range i.revocations {
		s.takeRevocation(r)
	}
	for _, t := range i.apiTokens {
		s.put(tableAPITokens, t)
		s.secrets.set(t)
		s.apiTokens++
	}
}

func (s *state) takeRevocation(r *identity.Revocation) {
	r.Reason, r.By, r.Index = s.texts.intern(r.Reason), s.texts.intern(r.By), s.index
	if old, ok := s.revocations.get(r); ok {
		r.Expires = max(r.Expires, old.Expires)
		s.revocationsByExpiry.delete(old)
	}
	s.revocations.set(r)
	s.revocationsByExpiry.set(r)
	s.set.Add(revocation.Entry{Handle: r.Handle, Expires: r.Expires})
}

// endRestore takes over the backup's settings, and keeps what is this cluster's own: its id, its gossip keys, its
// members and their keys. Command ids of before are forgotten: what they were about is not there any more.
func (s *state) endRestore() (*Imported, *identity.Error) {
	if s.restoring == nil {
		return nil, identity.Errorf(identity.CodeConflict, "no restore is under way").WithHint("begin one: deputy cluster snapshot restore FILE")
	}
	done := s.restoring
	settings := done.Backup.Settings
	settings.ClusterID, settings.GossipKeys = "", nil // putSettings keeps these
	if _, err := s.putSettings(PutSettings{Settings: settings}); err != nil {
		return nil, err
	}
	s.internal, s.clients = newWindow(internalAge), newWindow(clientKeyAge)
	s.restoring = nil
	s.closed = "the cluster was restored from a backup of " + done.Backup.Time.String()
	return &Imported{Records: done.Records}, nil
}
