package fsm

import (
	"slices"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// importRecords takes all records of a frame or none, so that a refusal leaves the state as it was.
//
// It checks what the tables need, and not what the domain allows: those rules change between versions, and ReadBackup
// has held the records to them.
func (s *state) importRecords(b Import) (*Imported, *identity.Error) {
	if s.restoring == nil {
		return nil, noRestore()
	}
	if len(b.Records) > maxImport {
		return nil, identity.Errorf(identity.CodeTooLarge, "an import of %d bytes; at most %d are allowed", len(b.Records), maxImport)
	}
	i, err := decodeImport(section(b.Section), b.Records)
	if err != nil {
		return nil, invalid("%v", err)
	}
	if i.records == 0 {
		return nil, invalid("the import holds no record")
	}
	if !i.follows(s.restoring.Section, s.restoring.Key) {
		return nil, identity.Errorf(identity.CodeConflict, "the import is not the next one of the restore that is under way").
			WithHint("begin the restore again: deputy cluster snapshot restore FILE")
	}
	if err := s.mayImport(i); err != nil {
		return nil, err
	}
	next := *s.restoring
	next.APITokens = append(slices.Clip(next.APITokens), s.take(i)...)
	next.Records += i.records
	next.Section, next.Key = i.section, i.last
	s.restoring = &next
	return &Imported{Records: i.records}, nil
}

// onlyOnce holds what an import brings to the state and to itself: nothing may be there twice.
type onlyOnce map[string]struct{}

func (o onlyOnce) check(kind, id string, there bool) *identity.Error {
	_, twice := o[kind+id]
	if there || twice || id == "" {
		return invalid("the backup holds %s %.64q twice, or without a name", kind, id)
	}
	o[kind+id] = struct{}{}
	return nil
}

// mayImport holds the records to the state and to each other: nothing may be there twice, nor come from a
// generation that the backup's cluster had not reached. That no name is there twice follows from their order.
func (s *state) mayImport(i *imported) *identity.Error {
	once := make(onlyOnce, i.records)
	for _, w := range i.agents {
		if err := s.mayImportAgent(w, once); err != nil {
			return err
		}
	}
	for _, w := range i.principals {
		if err := w.check(s.restoring.Backup.Generation); err != nil {
			return invalid("%v", err)
		}
	}
	for _, a := range i.applications {
		if err := s.mayImportApplication(a, once); err != nil {
			return err
		}
	}
	for _, r := range i.revocations {
		if len(r.Handle) > identity.MaxHandleLength || generationOf(r.Handle) > maxGeneration {
			return invalid("the backup holds handle %.300q, of a generation that no cluster ever reaches", r.Handle)
		}
	}
	if err := s.mayImportDelegations(i.delegations); err != nil {
		return err
	}
	if s.policies.len()+len(i.policies) > identity.MaxPolicies {
		return limitReached("policies", identity.MaxPolicies)
	}
	return s.mayImportTokens(i.apiTokens, once)
}

func (s *state) mayImportAgent(w *wireAgent, once onlyOnce) *identity.Error {
	if err := w.check(s.restoring.Backup.Generation); err != nil {
		return invalid("%v", err)
	}
	return s.mayImportCredentials(Owner{OwnerAgent, w.Agent.Name}, w.Agent.Credentials, once)
}

func (s *state) mayImportCredentials(owner Owner, list []identity.Credential, once onlyOnce) *identity.Error {
	if err := roomFor(len(list), owner); err != nil {
		return err
	}
	for _, c := range list {
		_, there := find(s.owners.work, c.ID)
		if err := once.check("credential", c.ID, there); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) mayImportApplication(a *identity.Application, once onlyOnce) *identity.Error {
	if err := s.ownsAlone(a); err != nil {
		return err
	}
	if err := once.check("audience", a.Audience, false); err != nil {
		return err
	}
	for scope := range a.Scopes.All() {
		if err := once.check("scope", scope, false); err != nil {
			return err
		}
	}
	return s.mayImportCredentials(Owner{OwnerApplication, a.Name}, a.Credentials, once)
}

// mayImportDelegations keeps the bound of MaxPairDelegations, which the mint path relies on.
func (s *state) mayImportDelegations(list []*record) *identity.Error {
	active := make(map[[2]string]int)
	for _, r := range list {
		if r.made > s.restoring.Backup.Generation {
			return invalid("the backup holds a delegation of a generation that never was")
		}
		a, p, ok := s.parties(r)
		if !ok || !r.activeAt(s.time, p) {
			continue
		}
		pair := [2]string{r.principal, a.Name}
		n, counted := active[pair]
		if !counted {
			n = s.activeOfPair(p, a)
		}
		if n == MaxPairDelegations {
			return limitReached("active delegations from one principal to one agent", MaxPairDelegations)
		}
		active[pair] = n + 1
	}
	return nil
}

// parties returns the agent and the principal of a record, unless it belonged to others of their names.
func (s *state) parties(r *record) (*agentRow, *principalRow, bool) {
	a, ok := s.agents.find(r.agent.Value())
	if !ok || r.made < a.born {
		return nil, nil, false
	}
	p, ok := s.principals.find(r.principal)
	if !ok || r.made < p.born {
		return nil, nil, false
	}
	return a, p, true
}

func (s *state) mayImportTokens(tokens []*identity.APIToken, once onlyOnce) *identity.Error {
	// This cluster's own tokens don't count, or a full table could not be restored.
	if len(s.restoring.APITokens)+len(tokens) > MaxAPITokens {
		return limitReached("API tokens", MaxAPITokens)
	}
	for _, t := range tokens {
		other, there := first[identity.APIToken](s.rows(), tableAPITokens, indexHash, string(t.Hash))
		there = there && s.restoring.brought(other.ID)
		if err := once.check("secret of an API token", string(t.Hash), there); err != nil {
			return invalid("the backup holds two API tokens with the secret of %.64q, or that one has none", t.ID)
		}
	}
	return nil
}

// brought reports whether an API token came with the restore. Their ids are in order, as they were imported.
func (r *restoring) brought(id string) bool {
	_, found := slices.BinarySearch(r.APITokens, id)
	return found
}

// take files the records and returns the ids of the API tokens that it filed. What this cluster knows to be revoked
// is not brought back: its entry would be forgotten one day.
func (s *state) take(i *imported) (tokens []string) {
	for _, w := range i.agents {
		s.takeAgent(w)
	}
	for _, w := range i.principals {
		row := &principalRow{Principal: *w.Principal, born: w.Born, killed: w.Killed, killedAt: w.KilledAt}
		row.Status = identity.Status(s.texts.intern(string(row.Status)))
		row.Revision = s.index
		s.principals.set(row)
		if generation, reason := s.stoppedAt("usr_", row.ID); generation >= row.Generation {
			changed := *row
			s.stopPrincipal(&changed, generation, true, reason)
		}
	}
	for _, a := range i.applications {
		a.Credentials = s.takeCredentials(Owner{OwnerApplication, a.Name}, a.Credentials)
		a.Revision = s.index
		s.indexApplication(a)
	}
	for _, r := range i.delegations {
		s.takeDelegation(r)
	}
	for _, w := range i.bars {
		s.takeBar(bar{w.Principal, w.Agent, w.Made, w.Barred})
	}
	for _, r := range i.revocations {
		s.takeRevocation(r)
	}
	for _, p := range i.policies {
		p.Revision, s.policiesRevision = s.index, s.index
		s.policies.set(named[*identity.Policy]{p.ID, p})
	}
	for _, t := range i.apiTokens {
		if s.takeToken(t) {
			tokens = append(tokens, t.ID)
		}
	}
	return tokens
}

func (s *state) takeAgent(w *wireAgent) {
	row := newAgentRow(*w.Agent, &s.texts)
	row.born, row.Revision = w.Born, s.index
	row.Credentials = s.takeCredentials(Owner{OwnerAgent, row.Name}, row.Credentials)
	s.horizon.raise(row.MaxSessionSeconds, 0)
	s.agents.set(row)
	if generation, reason := s.stoppedAt("agt_", row.Name); generation >= row.Generation {
		changed := *row
		s.stopAgent(&changed, generation, true, reason)
	}
}

// takeCredentials leaves out those that were revoked.
func (s *state) takeCredentials(owner Owner, list []identity.Credential) []identity.Credential {
	kept := slices.DeleteFunc(list, func(c identity.Credential) bool { return s.isRevoked(identity.CredentialHandle(c.ID)) })
	for i := range kept {
		kept[i].Kind = identity.CredentialKind(s.texts.intern(string(kept[i].Kind)))
		s.owners.set(named[Owner]{kept[i].ID, owner})
	}
	return kept
}

// stoppedAt returns the latest generation of a name that is revoked, zero for none, and why.
func (s *state) stoppedAt(prefix, name string) (generation uint64, reason string) {
	from := prefix + name + "#"
	s.revocations.work().ascend(identity.Handle(from), func(r *identity.Revocation) bool {
		if !strings.HasPrefix(string(r.Handle), from) {
			return false
		}
		if of, g := splitGeneration(string(r.Handle[len(prefix):])); of == name && g > generation {
			generation, reason = g, r.Reason
		}
		return true
	})
	return generation, reason
}

// takeDelegation drops what belonged to an earlier one of its agent's or principal's name: it is dead for good.
func (s *state) takeDelegation(r *record) {
	_, p, ok := s.parties(r)
	if !ok {
		return
	}
	r.principal, r.reason, r.revision = p.ID, s.texts.intern(r.reason), s.index
	s.delegations.add(r)
	if s.isRevoked(identity.DelegationHandle(r.key())) {
		s.withdraw(r, p)
	}
}

// takeBar keeps a bar that was set since the restore began.
func (s *state) takeBar(b bar) {
	p, ok := s.principals.find(b.principal)
	if have, set := s.bars.get(b); !ok || b.made < p.born || set && have.made > b.made {
		return
	}
	b.principal = p.ID
	s.bars.set(b)
}

// takeRevocation files an entry with its own reason, time and expiry, and ends what the handle names here.
func (s *state) takeRevocation(r *identity.Revocation) {
	r.Index = s.index
	r.Expires = min(r.Expires, endOfTime)
	if isKey(r.Handle) {
		r.Expires = endOfTime
	}
	s.file(r)
	s.enter(r)
	s.generation = max(s.generation, generationOf(r.Handle))
	s.end(r.Handle, false, r.Reason)
}

// takeToken files an API token unless it was revoked, or is one of this cluster's own, which stays as it is.
func (s *state) takeToken(t *identity.APIToken) bool {
	_, sameID := first[identity.APIToken](s.rows(), tableAPITokens, indexID, t.ID)
	_, sameSecret := first[identity.APIToken](s.rows(), tableAPITokens, indexHash, string(t.Hash))
	if sameID || sameSecret || s.isRevoked(identity.CredentialHandle(t.ID)) {
		return false
	}
	imported := *t
	imported.Imported = true
	s.put(tableAPITokens, &imported)
	s.secrets.set(&imported)
	s.apiTokens++
	return true
}
