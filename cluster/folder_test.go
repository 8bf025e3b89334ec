package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// leftBehind is the folder of a stopped node of a cluster, with what it takes to open copies of it.
type leftBehind struct {
	t     *testing.T
	o     Options
	notes []string
}

// leave runs a cluster of one that takes so many snapshots with notes in between, keeping so many entries behind each.
func leave(t *testing.T, snapshots int, trailing uint64) *leftBehind {
	t.Helper()
	n := newCluster(t, func(o *Options) { o.Tuning.TrailingLogs = trailing })
	var notes []string
	note := func() {
		for range 5 {
			notes = append(notes, fmt.Sprintf("note %d", len(notes)))
			n.commit(tableCommand{Note: notes[len(notes)-1]})
		}
	}
	note()
	for range snapshots {
		require.NoError(t, n.Snapshot(t.Context()))
		note()
	}
	eventually(t, func() bool { return len(n.roster.seed.Load().Members) == 1 })
	n.stop()
	return &leftBehind{t: t, o: n.o, notes: notes}
}

// copied is a copy of the folder that the test may spoil.
func (l *leftBehind) copied() Options {
	l.t.Helper()
	o := l.o
	o.DataDir = filepath.Join(l.t.TempDir(), "data")
	require.NoError(l.t, os.CopyFS(o.DataDir, os.DirFS(l.o.DataDir)))
	o.Registerer = nil
	o.ClusterBind, o.GossipBind = "127.0.0.1:0", "127.0.0.1:0"
	t := newTable()
	o.FSM, o.Directory, o.Applied = t, t, t
	return o
}

// opens starts a node on a folder until it leads, and returns its notes.
func opens(t *testing.T, o Options) []string {
	t.Helper()
	n, err := New(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Stop(context.WithoutCancel(t.Context()))) }()
	require.NoError(t, n.Start(t.Context()))
	eventually(t, n.IsLeader)
	require.NoError(t, n.Barrier(t.Context()))
	return o.FSM.(*table).notes()
}

// refused checks that New refuses a folder with an error that says what is wrong and what to do.
func refused(t *testing.T, o Options, is error, says ...string) {
	t.Helper()
	_, err := New(o)
	require.ErrorIs(t, err, is)
	for _, text := range says {
		require.ErrorContains(t, err, text)
	}
	require.Contains(t, err.Error(), ";", "it ends with what to do")
	// Nothing is left locked, and the refusal is not spoilt by having been given once.
	_, err = New(o)
	require.ErrorIs(t, err, is)
}

func spoil(t *testing.T, path string, change func(data []byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, change(data), 0o600))
}

func flip(data []byte) []byte { data[len(data)/2] ^= 0x55; return data }

func garbage([]byte) []byte { return []byte("\x00 not what it was") }

func snapshotsOf(t *testing.T, o Options) []string {
	t.Helper()
	return newestFirst(snapshotNames(filepath.Join(o.DataDir, snapshotFolder)))
}

func TestUnspoiltFolderOpens(t *testing.T) {
	t.Parallel()
	left := leave(t, 2, 1)
	require.Equal(t, left.notes, opens(t, left.copied()))
}

// A node that is killed while it writes a snapshot leaves what it has written, gigabytes of it perhaps.
func TestAnUnfinishedSnapshotIsRemovedAtTheNextStart(t *testing.T) {
	t.Parallel()
	left := leave(t, 2, 1)
	o := left.copied()
	whole := snapshotsOf(t, o)
	path := filepath.Join(o.DataDir, snapshotFolder, "2-22259-1795996350173.tmp")
	require.NoError(t, os.Mkdir(path, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(path, "state.bin"), []byte("half of"), 0o600))
	require.Equal(t, left.notes, opens(t, o))
	require.NoDirExists(t, path)
	require.Equal(t, whole, snapshotsOf(t, o))
}

func TestDamagedLogIsRefused(t *testing.T) {
	t.Parallel()
	left := leave(t, 0, 1)
	for name, change := range map[string]func([]byte) []byte{
		"empty":           func([]byte) []byte { return nil },
		"cut in half":     func(d []byte) []byte { return d[:len(d)/2] },
		"cut by one page": func(d []byte) []byte { return d[:len(d)-os.Getpagesize()] },
		"one page left":   func(d []byte) []byte { return d[:os.Getpagesize()] },
		"a few bytes":     func(d []byte) []byte { return d[:100] },
		"zeroed":          func(d []byte) []byte { return make([]byte, len(d)) },
		"zeroed behind its header": func(d []byte) []byte {
			clear(d[2*os.Getpagesize():])
			return d
		},
		"random": func(d []byte) []byte { _, _ = rand.Read(d); return d },
		"random behind its header": func(d []byte) []byte {
			_, _ = rand.Read(d[2*os.Getpagesize():])
			return d
		},
		"something else": garbage,
	} {
		t.Run(name, func(t *testing.T) {
			o := left.copied()
			path := filepath.Join(o.DataDir, logFile)
			// The file is as long as its pages in use, so that every cut hurts.
			spoil(t, path, func(d []byte) []byte { return change(d[:usedBytes(t, path)]) })
			refused(t, o, ErrCorruptFolder, path, "join under a new name")
		})
	}
}

func usedBytes(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	require.NoError(t, err)
	b := &boltFile{r: f, size: info.Size()}
	require.NoError(t, b.readMeta())
	return int64(b.pages) * b.pageSize
}

// Whatever the damage is, it ends in an error or does no harm: neither a panic that nobody can catch, nor a signal,
// nor a loop.
func TestNoDamageToTheLogEndsTheProcess(t *testing.T) {
	t.Parallel()
	left := leave(t, 0, 1)
	o := left.copied()
	path := filepath.Join(o.DataDir, logFile)
	sound, err := os.ReadFile(path)
	require.NoError(t, err)
	sound = sound[:usedBytes(t, path)]
	dir, err := openDataDir(o.DataDir, nodeIdentity{NodeID: o.NodeID, Key: o.Key.Public()})
	require.NoError(t, err)
	defer dir.close() //nolint:errcheck // a lock
	random := mathrand.New(mathrand.NewPCG(1, 2))
	found := 0
	for range 300 {
		data := append([]byte(nil), sound...)
		for range 1 + random.IntN(3) {
			page := random.IntN(len(data)/os.Getpagesize()) * os.Getpagesize()
			switch at := page + random.IntN(256); random.IntN(3) { // pages' headers and elements come first
			case 0:
				data[at] ^= byte(1 << random.IntN(8))
			case 1:
				data[at] = byte(random.IntN(256))
			default:
				other := random.IntN(len(data)/os.Getpagesize()) * os.Getpagesize()
				copy(data[page:page+os.Getpagesize()], data[other:])
			}
		}
		require.NoError(t, os.WriteFile(path, data, 0o600))
		s, err := openStores(dir, &stallWatch{limit: time.Minute, hook: func(time.Duration) {}}, newHclog(slog.New(slog.DiscardHandler), "raft"))
		if err != nil {
			require.ErrorIs(t, err, ErrCorruptFolder)
			found++
			continue
		}
		require.NoError(t, s.close())
	}
	require.Greater(t, found, 100)
}

func TestMissingPartsAreRefused(t *testing.T) {
	t.Parallel()
	left := leave(t, 2, 1)
	for name, c := range map[string]struct {
		remove string
		says   string
	}{
		"the log":       {logFile, "is missing"},
		"who it is":     {identityFile, "put node.json back"},
		"the snapshots": {snapshotFolder, "snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			o := left.copied()
			require.NoError(t, os.RemoveAll(filepath.Join(o.DataDir, c.remove)))
			refused(t, o, ErrCorruptFolder, filepath.Join(o.DataDir, c.remove), c.says)
		})
	}
}

// Without a trace in the log itself, since everything in it went into the snapshot.
func TestLostSnapshotIsRefusedThoughTheLogIsEmpty(t *testing.T) {
	t.Parallel()
	left := leave(t, 1, 1)
	o := left.copied()
	require.NoError(t, os.RemoveAll(filepath.Join(o.DataDir, snapshotFolder)))
	dir, err := openDataDir(o.DataDir, nodeIdentity{NodeID: o.NodeID, Key: o.Key.Public()})
	require.NoError(t, err)
	db, err := openLog(dir)
	require.NoError(t, err)
	first, err := db.FirstIndex()
	require.NoError(t, err)
	last, err := db.LastIndex()
	require.NoError(t, err)
	require.NoError(t, db.DeleteRange(first, last))
	require.NoError(t, db.Close())
	require.NoError(t, dir.close())
	refused(t, o, ErrCorruptFolder, "lacks the snapshot of index")
}

func TestLogFromBeforeItsSnapshotsIsRefused(t *testing.T) {
	t.Parallel()
	left := leave(t, 1, 1)
	other := leave(t, 0, 1)
	o := left.copied()
	spoil(t, filepath.Join(o.DataDir, logFile), func([]byte) []byte {
		data, err := os.ReadFile(filepath.Join(other.o.DataDir, logFile))
		require.NoError(t, err)
		return data
	})
	// Another log would have to be as long to go unnoticed, and this one is not.
	snapshot := snapshotsOf(t, o)[0]
	moved := strings.Replace(snapshot, strings.Split(snapshot, "-")[0], "999", 1)
	path := filepath.Join(o.DataDir, snapshotFolder)
	require.NoError(t, os.Rename(filepath.Join(path, snapshot), filepath.Join(path, moved)))
	spoil(t, filepath.Join(path, moved, "meta.json"), func(d []byte) []byte {
		text := strings.ReplaceAll(string(d), snapshot, moved)
		return []byte(strings.Replace(text, `"Term":`+strings.Split(snapshot, "-")[0], `"Term":999`, 1))
	})
	refused(t, o, ErrCorruptFolder, "its votes are lost")
}

func TestDamagedSnapshotIsRefusedWhereTheLogHasNotAllOfIt(t *testing.T) {
	t.Parallel()
	left := leave(t, 2, 1)
	for name, spoilt := range map[string]struct {
		file   string
		change func([]byte) []byte
	}{
		"flipped state":       {"state.bin", flip},
		"cut state":           {"state.bin", func(d []byte) []byte { return d[:len(d)/2] }},
		"empty state":         {"state.bin", func([]byte) []byte { return nil }},
		"garbled description": {"meta.json", garbage},
		"another index": {"meta.json", func(d []byte) []byte {
			return []byte(strings.Replace(string(d), `"Index":`, `"Index":1`, 1))
		}},
		"another member": {"meta.json", func(d []byte) []byte {
			return []byte(strings.Replace(string(d), `"ID":"n1"`, `"ID":"n9"`, 1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := left.copied()
			newest := snapshotsOf(t, o)[0]
			spoil(t, filepath.Join(o.DataDir, snapshotFolder, newest, spoilt.file), spoilt.change)
			refused(t, o, ErrCorruptFolder, newest, "join under a new name")
		})
	}
}

func TestDamagedSnapshotIsPutAsideWhereTheLogHasAllOfIt(t *testing.T) {
	t.Parallel()
	left := leave(t, 2, 10_000)
	for name, all := range map[string]bool{"the newest": false, "all": true} {
		t.Run(name, func(t *testing.T) {
			o := left.copied()
			kept := snapshotsOf(t, o)
			require.Len(t, kept, 2)
			spoilt := kept[:1]
			if all {
				spoilt = kept
			}
			for _, id := range spoilt {
				spoil(t, filepath.Join(o.DataDir, snapshotFolder, id, "state.bin"), flip)
			}
			require.Equal(t, left.notes, opens(t, o))
			for _, id := range spoilt {
				require.DirExists(t, filepath.Join(o.DataDir, damagedFolder, id))
				require.NotContains(t, snapshotsOf(t, o), id)
			}
		})
	}
}

// Its checksum is right, so only the state machine can tell; raft would go on to an older snapshot.
func TestSnapshotThatTheStateMachineRefusesIsNotSkipped(t *testing.T) {
	t.Parallel()
	left := leave(t, 2, 1)
	o := left.copied()
	newest := snapshotsOf(t, o)[0]
	_, index, _ := parseSnapshotName(newest)
	o.FSM = &pickyTable{table: o.FSM.(*table)}
	n, err := New(o)
	require.NoError(t, err)
	err = n.Start(t.Context())
	require.ErrorIs(t, err, ErrCorruptFolder)
	require.ErrorContains(t, err, newest)
	require.Positive(t, index)
	require.Equal(t, 1, o.FSM.(*pickyTable).restores, "the older one is not even tried")
}

// pickyTable refuses every snapshot.
type pickyTable struct {
	*table
	restores int
}

func (p *pickyTable) Restore(r io.ReadCloser) error {
	p.restores++
	return errors.New("written by a newer version")
}

func TestForeignFolderIsRefused(t *testing.T) {
	t.Parallel()
	left := leave(t, 0, 1)
	for name, c := range map[string]struct {
		options func(*Options)
		folder  string
		says    string
	}{
		"another node":    {options: func(o *Options) { o.NodeID = "n9" }, says: `belongs to node "n1", this is node "n9"`},
		"another key":     {options: func(o *Options) { o.Key = newKey(t) }, says: "was made under another node key"},
		"another cluster": {options: func(o *Options) { o.ClusterID = "cls_other" }, folder: `"cluster_id":"cls_own",`, says: "is of cluster cls_own"},
		"newer format":    {folder: `"format":99,`, says: "a newer version has run on it"},
	} {
		t.Run(name, func(t *testing.T) {
			o := left.copied()
			if c.options != nil {
				c.options(&o)
			}
			if c.folder != "" {
				spoil(t, filepath.Join(o.DataDir, identityFile), func(d []byte) []byte {
					return append([]byte("{"+c.folder), strings.Replace(string(d), `"format":1,`, "", 1)[1:]...)
				})
			}
			refused(t, o, ErrForeignFolder, o.DataDir, c.says)
		})
	}
}

func TestClusterIsRememberedThoughThePeersAreGone(t *testing.T) {
	t.Parallel()
	n := newNode(t, "n1")
	p := peersOf(t, 5, "n1", "n2")
	p.ClusterID = "cls_own"
	require.NoError(t, n.Seed(p))
	n.stop()
	require.NoError(t, os.Remove(filepath.Join(n.o.DataDir, peersFile)))
	o := n.o
	o.Registerer, o.ClusterID = nil, "cls_other"
	refused(t, o, ErrForeignFolder, "cls_own")
}

func TestDamagedIdentityIsRefused(t *testing.T) {
	t.Parallel()
	left := leave(t, 0, 1)
	for name, change := range map[string]func([]byte) []byte{
		"garbage": garbage,
		"empty":   func([]byte) []byte { return nil },
		"cut":     func(d []byte) []byte { return d[:len(d)/2] },
		"nothing": func([]byte) []byte { return []byte("{}") },
	} {
		t.Run(name, func(t *testing.T) {
			o := left.copied()
			spoil(t, filepath.Join(o.DataDir, identityFile), change)
			refused(t, o, ErrCorruptFolder, filepath.Join(o.DataDir, identityFile))
		})
	}
}

// A list of peers is a copy of what is in the log. It can't be done without where nobody would be let in.
func TestDamagedPeersAreDoneWithoutWherePossible(t *testing.T) {
	t.Parallel()
	t.Run("alone", func(t *testing.T) {
		left := leave(t, 0, 1)
		o := left.copied()
		spoil(t, filepath.Join(o.DataDir, peersFile), garbage)
		require.Equal(t, left.notes, opens(t, o))
		require.FileExists(t, filepath.Join(o.DataDir, peersFile+".damaged"))
	})
	t.Run("with others, and no snapshot", func(t *testing.T) {
		nodes := threeNodes(t)
		eventually(t, func() bool { return len(nodes[1].roster.seed.Load().Members) == 3 })
		nodes[1].stop()
		left := &leftBehind{t: t, o: nodes[1].o}
		o := left.copied()
		spoil(t, filepath.Join(o.DataDir, peersFile), garbage)
		refused(t, o, ErrCorruptFolder, filepath.Join(o.DataDir, peersFile), "from any other member")
		require.NoError(t, os.Remove(filepath.Join(o.DataDir, peersFile)))
		refused(t, o, ErrCorruptFolder, "is missing")

		// What it says helps.
		healthy, err := os.ReadFile(filepath.Join(nodes[0].o.DataDir, peersFile))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(nodes[1].o.DataDir, peersFile), healthy, 0o600))
		nodes[1].open()
		nodes[1].start()
		nodes[0].commit(tableCommand{Note: "on"})
		haveNotes(t, []string{"on"}, nodes...)
	})
	t.Run("with others, and a snapshot", func(t *testing.T) {
		nodes := threeNodes(t)
		eventually(t, func() bool { return len(nodes[1].table.Members()) == 3 })
		eventually(t, func() bool { return nodes[1].Snapshot(t.Context()) == nil }) // not before raft has applied its latest members
		nodes[1].stop()
		spoil(t, filepath.Join(nodes[1].o.DataDir, peersFile), garbage)
		nodes[1].open()
		nodes[1].start()
		nodes[0].commit(tableCommand{Note: "on"})
		haveNotes(t, []string{"on"}, nodes...)
	})
}

// The very first start is cut short between claiming the folder and making the log.
func TestFirstStartThatWasCutShortBeginsAnew(t *testing.T) {
	t.Parallel()
	for name, log := range map[string][]byte{"no log": nil, "empty log": {}, "half a log": make([]byte, 8192)} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "n1")
			n.stop()
			o := n.o
			o.Registerer, o.DataDir = nil, t.TempDir()
			dir, err := openDataDir(o.DataDir, nodeIdentity{NodeID: o.NodeID, Key: o.Key.Public()})
			require.NoError(t, err)
			require.NoError(t, dir.close())
			if log != nil {
				require.NoError(t, os.WriteFile(filepath.Join(o.DataDir, logFile), log, 0o600))
			}
			again, err := New(o)
			require.NoError(t, err)
			require.NoError(t, again.Stop(t.Context()))
			require.NoError(t, os.Truncate(filepath.Join(o.DataDir, logFile), 0))
			refused(t, o, ErrCorruptFolder, logFile) // by now it may hold a vote
		})
	}
}

func TestFolderOfTheFirstFormatIsTakenOver(t *testing.T) {
	t.Parallel()
	left := leave(t, 0, 1)
	o := left.copied()
	spoil(t, filepath.Join(o.DataDir, identityFile), func(d []byte) []byte {
		return []byte(strings.NewReplacer(`"format":1,`, "", `,"log_made":true`, "").Replace(string(d)))
	})
	require.Equal(t, left.notes, opens(t, o))
	require.NoError(t, os.Remove(filepath.Join(o.DataDir, logFile)))
	refused(t, o, ErrCorruptFolder, "is missing")
}

func TestFolderThatMayNotBeUsedSaysWhoseRightsAreMissing(t *testing.T) {
	left := leave(t, 0, 1)
	for name, c := range map[string]struct {
		path string
		mode os.FileMode
	}{
		"folder":     {"", 0o500},
		"lock":       {lockFile, 0o000},
		"log":        {logFile, 0o000},
		"log, write": {logFile, 0o400},
		"identity":   {identityFile, 0o000},
		"peers":      {peersFile, 0o000},
		"snapshots":  {snapshotFolder, 0o500},
	} {
		t.Run(name, func(t *testing.T) {
			o := left.copied()
			require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(o.DataDir)), 0o755)) // made by the test's root
			if name == "folder" {
				require.NoError(t, os.Remove(filepath.Join(o.DataDir, lockFile)))
			}
			asNobody(t, o.DataDir, func() {
				require.NoError(t, os.Chmod(filepath.Join(o.DataDir, c.path), c.mode))
				_, err := New(o)
				require.ErrorIs(t, err, os.ErrPermission)
				require.ErrorContains(t, err, filepath.Join(o.DataDir, c.path))
				require.ErrorContains(t, err, "readable and writable for the user")
				require.NoError(t, os.Chmod(filepath.Join(o.DataDir, c.path), 0o700))
			})
		})
	}
}

// asNobody runs f without root's right to open everything, in a folder that is its own.
func asNobody(t *testing.T, folder string, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	const nobody = 65534
	require.NoError(t, filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, nobody, nobody))
	}))
	runtime.LockOSThread() // file system rights are a thread's own
	defer runtime.UnlockOSThread()
	require.NoError(t, unix.Setfsuid(nobody))
	defer func() { require.NoError(t, unix.Setfsuid(0)) }()
	f()
}

func TestDamagedNodeKeySaysWhatToDo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node.key")
	for _, content := range []string{"", "garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := LoadOrCreateNodeKey(path)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, "is damaged")
		require.ErrorContains(t, err, "join under a new name")
	}
}
