package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// rsyslogConfig has rsyslog parse the header, the structured data and the JSON, and write what it found.
const rsyslogConfig = `
global(workDirectory="%[1]s" maxMessageSize="256k")
module(load="imtcp" MaxSessions="10")
module(load="mmpstrucdata")
module(load="mmjsonparse")
template(name="found" type="list") {
  constant(value="{\"app\":\"")         property(name="app-name")
  constant(value="\",\"msgid\":\"")     property(name="msgid")
  constant(value="\",\"facility\":")    property(name="syslogfacility")
  constant(value=",\"severity\":")      property(name="syslogseverity")
  constant(value=",\"time\":\"")        property(name="timereported" dateFormat="rfc3339")
  constant(value="\",\"data\":")        property(name="$!rfc5424-sd!deputy@32473")
  constant(value=",\"session\":\"")     property(name="$!session")
  constant(value="\",\"decision\":\"")  property(name="$!decision")
  constant(value="\",\"ok\":\"")        property(name="$.ok")
  constant(value="\",\"record\":")      property(name="$.line")
  constant(value="}\n")
}
ruleset(name="audit") {
  action(type="mmpstrucdata")
  set $.line = ltrim($msg);
  action(type="mmjsonparse" cookie="")
  set $.ok = $parsesuccess;
  action(type="omfile" file="%[1]s/found.jsonl" template="found" asyncWriting="off" flushOnTXEnd="on")
}
input(type="imtcp" address="127.0.0.1" port="%[2]d" ruleset="audit")
`

func TestRsyslogParsesTheRecords(t *testing.T) {
	program, err := exec.LookPath("rsyslogd")
	if err != nil {
		if program = "/usr/sbin/rsyslogd"; !isProgram(program) {
			if os.Getenv("DEPUTY_REQUIRE_RSYSLOG") == "true" { // .ci/run could install it
				t.Fatal("rsyslogd is not installed: apt-get install rsyslog")
			}
			t.Skip("rsyslogd is not installed (Debian: apt-get install rsyslog)")
		}
	}
	dir := t.TempDir()
	port := freePort(t)
	config := filepath.Join(dir, "rsyslog.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, rsyslogConfig, dir, port), 0o600))
	var said bytes.Buffer
	daemon := exec.Command(program, "-n", "-f", config, "-i", filepath.Join(dir, "pid"))
	daemon.Stdout, daemon.Stderr = &said, &said
	require.NoError(t, daemon.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = daemon.Wait()
	}()
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		<-ended
		if t.Failed() {
			t.Log(said.String())
		}
	})

	o := testOptions(t.TempDir())
	address := net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	o.Sinks = []SinkOptions{{Name: "rsyslog", Sink: syslogTo(t, SyslogOptions{Address: address}), Linger: time.Millisecond}}
	l := openLog(t, o)
	r := sample()
	r.Detail = "quotes \" brackets ] and \\ backslashes, and ünicode"
	require.NoError(t, l.Append(t.Context(), &r))
	appendAll(t, l, 0, 100)
	eventually(t, "rsyslog takes it", func() bool { return l.Sinks()[0].Behind == 0 })
	closeLog(t, l)
	want := linesOf(t, o.Dir)

	type parsed struct {
		App, MsgID, Session, Decision, OK string
		Facility, Severity                int
		Time                              time.Time
		Data                              struct{ Node, Seq, Prev, Hash string }
		Record                            json.RawMessage
	}
	var found []parsed
	eventually(t, "rsyslog writes all of it", func() bool {
		found = nil
		f, err := os.Open(filepath.Join(dir, "found.jsonl"))
		if err != nil {
			return false
		}
		defer f.Close() //nolint:errcheck // read only
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, MaxLine)
		for lines.Scan() {
			var p parsed
			if json.Unmarshal(lines.Bytes(), &p) != nil {
				return false // being written
			}
			found = append(found, p)
		}
		return len(found) >= len(want)
	})
	require.Len(t, found, len(want))
	for i, p := range found {
		e, err := ParseEntry(p.Record)
		require.NoError(t, err, "the chain survives, byte for byte")
		require.Equal(t, string(bytes.TrimSpace(want[i])), string(p.Record))
		require.Equal(t, "OK", p.OK)
		require.Equal(t, "deputy", p.App)
		require.Equal(t, string(e.Kind), p.MsgID)
		require.Equal(t, 13, p.Facility)
		require.Equal(t, e.Session, p.Session)
		require.Equal(t, string(e.Decision), p.Decision)
		require.Equal(t, e.Time, identity.InstantOf(p.Time))
		require.Equal(t, "n1", p.Data.Node)
		require.Equal(t, fmt.Sprint(e.Sequence), p.Data.Seq)
		require.Equal(t, e.Prev.String(), p.Data.Prev)
		require.Equal(t, e.Hash.String(), p.Data.Hash)
	}
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// freePort is one that nobody listened on a moment ago: rsyslog can't tell which one it was given.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // only its number is wanted
	return l.Addr().(*net.TCPAddr).Port
}
