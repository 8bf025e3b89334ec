package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/deputy-id/deputy/identity"
)

// A backup is written like a snapshot, under a magic of its own: a node must not take one for the other. It holds
// what people have made and what was stopped. It leaves out what belongs to one cluster and must not come back to
// life in another: signing keys, gossip keys, members, join tokens, and the memory of command ids.
//
// It does hold the hashes of secrets, and so is to be kept like them.
const (
	backupMagic   = "DEPUTYBK"
	backupVersion = 1

	// maxImport bounds the records of one Import, so that it fits into a command.
	maxImport = 768 << 10
)

// BackupHeader is what a restore begins with.
type BackupHeader struct {
	Index      uint64            `codec:"ix"` // of the log of the cluster that it was taken from
	Time       identity.Instant  `codec:"t"`  // FSM time there
	Generation uint64            `codec:"g"`  // no object in it has a larger one
	Horizon    horizon           `codec:"h"`
	Settings   identity.Settings `codec:"s"` // without gossip keys
}

// BackupInfo describes a backup that was found to be whole.
type BackupInfo struct {
	ClusterID string           `json:"cluster_id"`
	Issuer    string           `json:"issuer"`
	Index     uint64           `json:"index"`
	Time      identity.Instant `json:"taken_at"`
	Bytes     int64            `json:"bytes"`
	SHA256    string           `json:"sha256"` // of the whole file

	Agents       int `json:"agents"`
	Principals   int `json:"principals"`
	Applications int `json:"applications"`
	Delegations  int `json:"delegations"`
	Revocations  int `json:"revocations"`
	APITokens    int `json:"api_tokens"`
}

// Backup writes the state as of now. Apply goes on meanwhile; memory is one frame.
func (f *FSM) Backup(dst io.Writer) (BackupInfo, error) {
	v := f.View()
	if v.restoring != nil {
		return BackupInfo{}, identity.Errorf(identity.CodeConflict, "a restore is under way, so there is no whole state to back up").
			WithHint("end the restore, or begin it again")
	}
	tee := &tally{dst: dst, sum: sha256.New()}
	w := newFrameWriter(tee)
	w.raw(binary.BigEndian.AppendUint16([]byte(backupMagic), backupVersion))
	settings := *v.settings
	settings.GossipKeys = nil
	w.section(sectionMeta)
	w.record(&BackupHeader{Index: v.index, Time: v.time, Generation: v.generation, Horizon: v.horizon, Settings: settings})
	v.writeModel(w)
	writeTable[identity.APIToken](w, sectionAPITokens, v.small, tableAPITokens)
	if err := w.end(); err != nil {
		return BackupInfo{}, fmt.Errorf("writing the backup: %w", err)
	}
	counts := v.Counts()
	return BackupInfo{
		ClusterID: settings.ClusterID, Issuer: settings.Issuer, Index: v.index, Time: v.time,
		Bytes: tee.bytes, SHA256: hex.EncodeToString(tee.sum.Sum(nil)),
		Agents: counts.Agents, Principals: counts.Principals, Applications: counts.Applications,
		Delegations: counts.Delegations, Revocations: counts.Revocations, APITokens: counts.APITokens,
	}, nil
}

// tally counts and hashes what passes through.
type tally struct {
	dst   io.Writer
	sum   hash.Hash
	bytes int64
}

// Write implements io.Writer.
func (t *tally) Write(p []byte) (int, error) {
	n, err := t.dst.Write(p)
	t.sum.Write(p[:n])
	t.bytes += int64(n)
	return n, err
}

// InspectBackup reads a backup to its end and checks every record and the checksum.
func InspectBackup(source io.Reader) (BackupInfo, error) {
	return ReadBackup(source, func(Body) error { return nil })
}

// ReadBackup turns a backup into the commands that restore it: BeginRestore, an Import for each frame, EndRestore.
// It hands them to visit as it reads, so the checksum is only known to be right when it returns; a caller inspects
// the backup first. Errors wrap one of ErrSnapshotForeign, ErrSnapshotVersion, ErrSnapshotCorrupt, or are visit's.
func ReadBackup(source io.Reader, visit func(Body) error) (BackupInfo, error) {
	sum := sha256.New()
	counted := &tally{dst: sum, sum: sha256.New()}
	r := newFrameReader(io.TeeReader(source, counted))
	var head [len(backupMagic) + 2]byte
	if err := r.raw(head[:]); err != nil {
		return BackupInfo{}, err
	}
	switch magic := string(head[:len(backupMagic)]); {
	case magic == snapshotMagic:
		return BackupInfo{}, fmt.Errorf("%w, but a node's own snapshot: take a backup with `deputy cluster snapshot save`", ErrSnapshotForeign)
	case magic != backupMagic:
		return BackupInfo{}, fmt.Errorf("%w: not a backup", ErrSnapshotForeign)
	}
	if version := binary.BigEndian.Uint16(head[len(backupMagic):]); version != backupVersion {
		return BackupInfo{}, fmt.Errorf("%w: the backup has format %d, this build reads %d", ErrSnapshotVersion, version, backupVersion)
	}
	b := &backupReader{frameReader: r, visit: visit}
	if err := b.run(); err != nil {
		return BackupInfo{}, err
	}
	b.info.Bytes, b.info.SHA256 = counted.bytes, hex.EncodeToString(sum.Sum(nil))
	return b.info, nil
}

type backupReader struct {
	*frameReader
	visit  func(Body) error
	header *BackupHeader
	info   BackupInfo
}

func (b *backupReader) run() error {
	for {
		number, err := b.next()
		if err != nil {
			return err
		}
		switch {
		case number == sectionEnd && b.header == nil:
			return corrupt("its header is missing")
		case number == sectionEnd:
			if err := b.finish(); err != nil {
				return err
			}
			return b.visit(EndRestore{})
		case number == sectionMeta:
			err = b.begin()
		case b.header == nil:
			return corrupt("its header is missing")
		default:
			err = b.frame(number)
		}
		if err != nil {
			return err
		}
	}
}

func (b *backupReader) begin() error {
	if b.header != nil {
		return corrupt("its header is there twice")
	}
	header, err := read[BackupHeader](b.frameReader)
	if err != nil {
		return err
	}
	if b.more() {
		return corrupt("its header is followed by something else")
	}
	if err := header.Settings.Validate(); err != nil {
		return fmt.Errorf("%w: its settings: %w", ErrSnapshotCorrupt, err)
	}
	b.header = header
	b.info = BackupInfo{ClusterID: header.Settings.ClusterID, Issuer: header.Settings.Issuer, Index: header.Index, Time: header.Time}
	return b.visit(BeginRestore{Backup: *header})
}

func (b *backupReader) frame(number section) error {
	records, err := b.decode(number)
	if err != nil {
		return err
	}
	if len(b.payload) > maxImport {
		return corrupt("a frame of %d bytes; a backup has none over %d", len(b.payload), maxImport)
	}
	b.count(number, records)
	return b.visit(Import{Section: uint8(number), Records: append([]byte(nil), b.payload...)})
}

func (b *backupReader) count(number section, records int) {
	switch number {
	case sectionAgents:
		b.info.Agents += records
	case sectionPrincipals:
		b.info.Principals += records
	case sectionApplications:
		b.info.Applications += records
	case sectionDelegations:
		b.info.Delegations += records
	case sectionRevocations:
		b.info.Revocations += records
	case sectionAPITokens:
		b.info.APITokens += records
	}
}

// decode reads every record of the frame and holds it to what a command would have to keep to.
func (b *backupReader) decode(number section) (records int, err error) {
	i, err := decodeImport(number, b.payload)
	if err != nil {
		return 0, err
	}
	return i.records, i.validate(b.header)
}

// imported are the decoded records of one frame.
type imported struct {
	records      int
	agents       []*wireAgent
	principals   []*wirePrincipal
	applications []*identity.Application
	delegations  []*record
	bars         []*wireBar
	revocations  []*identity.Revocation
	apiTokens    []*identity.APIToken
}

// decodeImport is total: whatever the bytes are, it answers records or ErrSnapshotCorrupt.
func decodeImport(number section, payload []byte) (i *imported, err error) {
	i = new(imported)
	d := codec.NewDecoderBytes(payload, handle)
	for d.NumBytesRead() < len(payload) {
		switch number {
		case sectionAgents:
			err = decodeNext(d, &i.agents)
		case sectionPrincipals:
			err = decodeNext(d, &i.principals)
		case sectionApplications:
			err = decodeNext(d, &i.applications)
		case sectionDelegations:
			err = i.decodeDelegation(d)
		case sectionBars:
			err = decodeNext(d, &i.bars)
		case sectionRevocations:
			err = decodeNext(d, &i.revocations)
		case sectionAPITokens:
			err = decodeNext(d, &i.apiTokens)
		default:
			return nil, corrupt("section %d has no place in a backup", number)
		}
		if err != nil {
			return nil, err
		}
		i.records++
	}
	return i, nil
}

func decodeNext[T any](d *codec.Decoder, into *[]*T) error {
	v := new(T)
	if err := d.Decode(v); err != nil {
		return corrupt("it holds what is no record")
	}
	*into = append(*into, v)
	return nil
}

func (i *imported) decodeDelegation(d *codec.Decoder) error {
	var w wireRecord
	if err := d.Decode(&w); err != nil {
		return corrupt("it holds what is no delegation")
	}
	r, err := w.record()
	if err != nil {
		return err
	}
	i.delegations = append(i.delegations, r)
	return nil
}

// validate holds the records to the bounds of the domain. That is done where a backup is read, once, and not where
// it is applied: such rules change between versions, and replicas of two versions would come apart by them.
func (i *imported) validate(h *BackupHeader) error {
	for _, w := range i.agents {
		if w.Agent == nil || w.Born == 0 || w.Born > w.Agent.Generation || w.Agent.Generation > h.Generation {
			return corrupt("an agent's generations don't fit together")
		}
		if err := w.Agent.Validate(); err != nil {
			return fmt.Errorf("%w: agent %.64q: %w", ErrSnapshotCorrupt, w.Agent.Name, err)
		}
	}
	for _, w := range i.principals {
		if w.Principal == nil || w.Born == 0 || w.Born > w.Principal.Generation || w.Principal.Generation > h.Generation || w.Killed > h.Generation {
			return corrupt("a principal's generations don't fit together")
		}
		if err := w.Principal.Validate(); err != nil {
			return fmt.Errorf("%w: principal %.64q: %w", ErrSnapshotCorrupt, w.Principal.ID, err)
		}
	}
	for _, a := range i.applications {
		if err := a.Validate(); err != nil {
			return fmt.Errorf("%w: application %.64q: %w", ErrSnapshotCorrupt, a.Name, err)
		}
	}
	for _, r := range i.delegations {
		if r.made > h.Generation || r.principal == "" || r.agent.Value() == "" {
			return corrupt("a delegation's parties or generation are missing")
		}
	}
	for _, w := range i.bars {
		if w.Made > h.Generation {
			return corrupt("a withdrawal of consent has a generation that never was")
		}
	}
	for _, r := range i.revocations {
		if r.Handle == "" || len(r.Handle) > identity.MaxHandleLength {
			return corrupt("a revocation's handle has %d characters", len(r.Handle))
		}
	}
	for _, t := range i.apiTokens {
		if t.ID == "" || len(t.Hash) == 0 {
			return corrupt("an API token lacks its id or hash")
		}
	}
	return nil
}
