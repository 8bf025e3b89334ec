package server_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/server"
)

func TestUnknownKeyFailsWithItsLine(t *testing.T) {
	_, err := server.ParseConfig([]byte("node_id: n1\ndata_dir: /tmp/x\nlisten_everywhere: true\n"))
	require.ErrorContains(t, err, "line 3")
	require.ErrorContains(t, err, "listen_everywhere")
}

func TestConfigReportsEverythingThatIsWrongByKey(t *testing.T) {
	for text, says := range map[string]string{
		"data_dir: x":                           "node_id: is missing",
		"node_id: N1\ndata_dir: x":              "node_id: is \"N1\"",
		"node_id: n1":                           "data_dir: is missing",
		"issuer: ftp://x":                       "issuer:",
		"issuer: https://x?y=1":                 "issuer:",
		"public: {tls_cert: a.pem}":             "public.tls_cert: and public.tls_key go together",
		"log: {format: xml}":                    "log.format:",
		"log: {level: loud}":                    "level",
		"bootstrap: true\njoin_token: dpj_x":    "bootstrap: excludes join_token",
		"cluster: {listen: nowhere}":            "cluster.listen:",
		"cluster: {listen: '0.0.0.0:8411'}":     "cluster.advertise: is needed",
		"gossip: {listen: ':8431'}":             "gossip.advertise: is needed",
		"public: {trusted_proxies: [anyone]}":   "anyone",
		"limits: {requests_per_second: -1}":     "limits:",
		"disk: {reserve_mib: -1}":               "disk.reserve_mib:",
		"sessions: {index_mib: 0}":              "sessions.index_mib:",
		"sessions: {index_mib: 65537}":          "sessions.index_mib:",
		"external_urls: ['https://ok', 'nope']": "external_urls/1:",
	} {
		_, err := server.ParseConfig([]byte(text))
		require.ErrorContains(t, err, says, text)
	}
}

func TestConfigIsReadOverTheDefaults(t *testing.T) {
	c, err := server.ParseConfig([]byte("node_id: n1\ndata_dir: x\npublic: {url: https://deputy.example.com}\nlog: {level: debug}\n"))
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8401", c.Public.Listen)
	require.Equal(t, "https://deputy.example.com", c.Public.URL)
	require.Equal(t, "DEBUG", c.Log.Level.String())
}

func TestJoinTokenMayComeFromAFileThatIsGoneAfterTheJoin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	text := []byte("node_id: n2\ndata_dir: x\njoin_token_file: " + file + "\n")

	c, err := server.ParseConfig(text)
	require.NoError(t, err)
	require.Empty(t, c.JoinToken)

	require.NoError(t, os.WriteFile(file, []byte("dpj_abc\n"), 0o600))
	c, err = server.ParseConfig(text)
	require.NoError(t, err)
	require.Equal(t, "dpj_abc", c.JoinToken)
}

func TestMissingConfigFileIsNamed(t *testing.T) {
	_, err := server.LoadConfig(filepath.Join(t.TempDir(), "deputy.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "deputy.yaml")
}
