package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

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

	// maxImport bounds the records of one Import, so that it fits into a command. A backup's frames are far smaller,
	// as nothing else applies while one is imported.
	maxImport = 768 << 10
	// maxImportRecords bounds what one Import may make of its bytes: no record of a frame takes less than ten.
	maxImportRecords = 16 << 10
)

// BackupHeader is what a restore begins with.
type BackupHeader struct {
	Index      uint64            `codec:"ix"` // of the log of the cluster that it was taken from
	Time       identity.Instant  `codec:"t"`  // FSM time there
	Generation uint64            `codec:"g"`  // no object in it has a larger one
	Horizon    horizon           `codec:"h"`
	Settings   identity.Settings `codec:"s"` // without gossip keys

	PoliciesRevision uint64 `codec:"pr,omitempty"` // other than zero: the cluster had policies, though it may have deleted them
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
	ConsentBars  int `json:"consent_bars"`
	Revocations  int `json:"revocations"`
	APITokens    int `json:"api_tokens"`
	Policies     int `json:"policies"`
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
	w.record(&BackupHeader{
		Index: v.index, Time: v.time, Generation: v.generation, Horizon: v.horizon, Settings: settings, PoliciesRevision: v.policiesRevision,
	})
	v.writeModel(w)
	writeTable[identity.APIToken](w, sectionAPITokens, v.small, tableAPITokens)
	v.writePolicies(w)
	if err := w.end(); err != nil {
		return BackupInfo{}, fmt.Errorf("writing the backup: %w", err)
	}
	counts := v.Counts()
	return BackupInfo{
		ClusterID: settings.ClusterID, Issuer: settings.Issuer, Index: v.index, Time: v.time,
		Bytes: tee.bytes, SHA256: hex.EncodeToString(tee.sum.Sum(nil)),
		Agents: counts.Agents, Principals: counts.Principals, Applications: counts.Applications,
		Delegations: counts.Delegations, ConsentBars: v.bars.Len(), Revocations: counts.Revocations, APITokens: counts.APITokens,
		Policies: counts.Policies,
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
	whole := &tally{dst: io.Discard, sum: sha256.New()}
	r := newFrameReader(io.TeeReader(source, whole))
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
	b.info.Bytes, b.info.SHA256 = whole.bytes, hex.EncodeToString(whole.sum.Sum(nil))
	return b.info, nil
}

type backupReader struct {
	*frameReader
	visit  func(Body) error
	header *BackupHeader
	info   BackupInfo

	records int
	section section // of the last record
	key     []byte  // of the last record
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
			return b.visit(EndRestore{Records: b.records})
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
	if header.Generation > maxGeneration {
		return corrupt("its generation counter is %d, which no cluster ever reaches", header.Generation)
	}
	if err := header.Settings.Validate(); err != nil {
		return fmt.Errorf("%w: its settings: %w", ErrSnapshotCorrupt, err)
	}
	b.header = header
	b.info = BackupInfo{ClusterID: header.Settings.ClusterID, Issuer: header.Settings.Issuer, Index: header.Index, Time: header.Time}
	return b.visit(BeginRestore{Backup: *header})
}

func (b *backupReader) frame(number section) error {
	if len(b.payload) > maxImport {
		return corrupt("a frame of %d bytes; a backup has none over %d", len(b.payload), maxImport)
	}
	i, err := decodeImport(number, b.payload)
	if err != nil {
		return err
	}
	if i.records == 0 {
		return corrupt("a frame of section %d holds nothing", number)
	}
	if !i.follows(b.section, b.key) {
		return corrupt("the records of section %d are not in order", number)
	}
	if err := i.validate(b.header); err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshotCorrupt, err)
	}
	b.section, b.key = number, i.last
	b.records += i.records
	b.count(number, i.records)
	return b.visit(Import{Section: uint8(number), Records: bytes.Clone(b.payload)})
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
	case sectionBars:
		b.info.ConsentBars += records
	case sectionRevocations:
		b.info.Revocations += records
	case sectionAPITokens:
		b.info.APITokens += records
	case sectionPolicies:
		b.info.Policies += records
	}
}
