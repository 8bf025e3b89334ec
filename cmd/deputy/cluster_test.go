package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

func TestStatusSaysHowManyVotersMayFail(t *testing.T) {
	member := func(id, state, suffrage string, leader bool) string {
		text, _ := json.Marshal(map[string]any{"id": id, "state": state, "suffrage": suffrage, "leader": leader})
		return string(text)
	}
	for _, test := range []struct {
		members []string
		mayFail string
		words   string
	}{
		{[]string{member("n1", "alive", "voter", true), member("n2", "alive", "voter", false), member("n3", "alive", "voter", false), member("n4", "alive", "nonvoter", false)}, "1", "also with 1 more failing"},
		{[]string{member("n1", "alive", "voter", true), member("n2", "alive", "voter", false), member("n3", "unreachable", "voter", false)}, "0", "stop if one more voter fails"},
		{[]string{member("n1", "alive", "voter", false), member("n2", "unreachable", "voter", false), member("n3", "unreachable", "voter", false)}, "-1", "stopped: too few"},
		{[]string{member("n1", "alive", "voter", true)}, "0", "stop if one more"},
		{nil, "-1", "stopped"},
	} {
		newFakeNode(t, map[string]http.HandlerFunc{
			"GET /api/v1/settings":        answer(`{"cluster_id":"cls_1"}`),
			"GET /api/v1/cluster/members": answer("[" + strings.Join(test.members, ",") + "]"),
			"GET /api/v1/cluster/status":  answer(`[]`),
		})
		require.Contains(t, deputy(t, "", "cluster", "status", "-o", "json").out, `"may_fail": `+test.mayFail)
		require.Contains(t, deputy(t, "", "cluster", "status").out, test.words)
	}
}

func TestStatusShowsWhatEachNodeSaysOfItself(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/settings": answer(`{"cluster_id":"cls_1","issuer":"https://deputy.company.com"}`),
		"GET /api/v1/cluster/members": answer(`[
			{"id":"n1","state":"alive","suffrage":"voter","leader":true},
			{"id":"n2","state":"alive","suffrage":"voter"},
			{"id":"n3","state":"unreachable","suffrage":"voter"},
			{"id":"n4","state":"alive","suffrage":"nonvoter"}]`),
		"GET /api/v1/cluster/status": answer(`[
			{"id":"n1","fresh":true,"age_milliseconds":312.4,"applied_index":112,"key_id":"cvBssUEhDXyx","clock_offset_milliseconds":-700},
			{"id":"n2","fresh":false,"reason":"no leader","detail":"no leader for 3s","applied_index":110,"key_id":"QQ","draining":true,"pending_revocations":3},
			{"id":"n3","error":"did not answer within 3s"}]`),
	})
	got := deputy(t, "", "cluster", "status")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, `Cluster  cls_1
Issuer   https://deputy.company.com
Leader   n1
Voters   2 of 3 alive
Nodes    3 of 4 alive
Writes   go on, but stop if one more voter fails
Minting  open

NODE  STATE        ROLE      FRESH                  APPLIED  KEY       NOTE
n1    alive        leader    yes, as of 312 ms ago  112      cvBssUEh  clock off by -700ms
n2    alive        voter     NO: no leader          110      QQ        no leader for 3s, draining, keeps 3 revocations until there is a majority
n3    unreachable  voter     unknown                -        -         did not answer within 3s
n4    alive        nonvoter  unknown                -        -         was not asked
`, got.out)
}

func TestStatusSaysWhyNothingIsMinted(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/settings":        answer(`{}`),
		"GET /api/v1/cluster/members": answer(`[]`),
		"GET /api/v1/cluster/status":  answer(`[{"id":"n1","error":"gone"},{"id":"n2","minting_closed":"a backup was restored"}]`),
	})
	require.Contains(t, deputy(t, "", "cluster", "status").out, "Minting  closed: a backup was restored; see deputy cluster open --help\n")
	require.Equal(t, "a backup was restored", into[clusterStatus](t, "", "cluster", "status").MintingClosed)
}

func TestMembershipCommandsSayWhatComesNext(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"POST /api/v1/cluster/members/n4/drain":      func(w http.ResponseWriter, r *http.Request) { echoDrain(t, w, r) },
		"DELETE /api/v1/cluster/members/n4":          answer(`{"id":"n4","removed_at":"2026-04-17T08:00:00.000Z","index":7}`),
		"POST /api/v1/cluster/rotate-keys":           answer(`{"index":8}`),
		"POST /api/v1/cluster/members/n4/rotate-key": answer(`{"index":8}`),
		"POST /api/v1/cluster/rotate-gossip-key":     answer(`{"index":9}`),
		"POST /api/v1/cluster/open":                  answer(`{"index":10}`),
		"PATCH /api/v1/settings": answer(
			`{"cluster_id":"cls_1","issuer":"https://a","external_urls":["https://b"],"lease_milliseconds":1500,"offline_token_ttl_seconds":120,"key_rotation_seconds":2592000}`),
		"GET /api/v1/settings": answer(`{"cluster_id":"cls_1","issuer":"https://a","lease_milliseconds":10000,"offline_token_ttl_seconds":300,"revocations_kept_seconds":14464}`),
	})
	for args, want := range map[string]string{
		"cluster drain n4":                        "Node      n4\nDraining  yes\nNext      deputy cluster remove n4, or stop it for maintenance; --undo takes this back\n",
		"cluster drain n4 --undo":                 "Node      n4\nDraining  no\n",
		"cluster remove n4":                       "Removed     n4\nIts tokens  stay good until they end\nNext        its process ends by itself; its data folder is of no use any more\n",
		"cluster remove n4 --compromised --force": "Removed     n4\nIts tokens  are revoked\nNext        its process ends by itself; its data folder is of no use any more\n",
		"cluster rotate-keys":                     "Asked for  a new token key at every node\nWatch      deputy cluster status shows the key that each node signs with\n",
		"cluster rotate-keys n4":                  "Asked for  a new token key at n4\nWatch      deputy cluster status shows the key that each node signs with\n",
		"cluster rotate-gossip-key":               "Rotating  the gossip key; each step waits for every node\n",
		"cluster open --yes":                      "Minting  open\n",
		"cluster settings set --lease 1500ms":     "Cluster         cls_1\nIssuer          https://a\nAlso at         https://b\nLease           1.5s\nOffline tokens  at most 2m\nToken keys      rotated every 720h\n",
		"cluster settings show":                   "Cluster         cls_1\nIssuer          https://a\nLease           10s\nOffline tokens  at most 5m\nToken keys      rotated only by command\nRevocations     known for 4h1m4s at least\n",
	} {
		got := deputy(t, "", strings.Fields(args)...)
		require.Equal(t, exitDone, got.code, "%s: %s", args, got.err)
		require.Equal(t, want, got.out, args)
	}
	require.EqualValues(t, 8, into[wire.Change](t, "", "cluster", "rotate-keys").Index)
	require.True(t, into[wire.Drain](t, "", "cluster", "drain", "n4").Draining)
}

func echoDrain(t *testing.T, w http.ResponseWriter, r *http.Request) {
	var request wire.DrainRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.Draining == nil {
		t.Errorf("what was sent is no request to drain: %v", err)
		return
	}
	_ = json.NewEncoder(w).Encode(wire.Drain{ID: "n4", Draining: *request.Draining, Index: 7})
}

func TestOpeningWantsToBeMeant(t *testing.T) {
	n := newFakeNode(t, nil)
	got := deputy(t, "", "cluster", "open")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "give --yes once what was stopped since has been replayed")
	require.Empty(t, n.calls)
}

func TestRecoveryWantsToBeMeant(t *testing.T) {
	alone(t)
	for args, want := range map[string]string{
		"--config x --recover-quorum":                "then say --yes as well",
		"--config x --recover-quorum --yes --join t": "--recover-quorum goes with --config alone",
		"--dev --recover-quorum --yes":               "--recover-quorum goes with --config alone",
		"--config x --yes":                           "--yes is for --recover-quorum",
	} {
		got := deputy(t, "", append([]string{"server"}, strings.Fields(args)...)...)
		require.Equal(t, exitUsage, got.code, args)
		require.Contains(t, got.err, want, args)
	}
	got := deputy(t, "", "server", "--config", "/does/not/exist", "--recover-quorum", "--yes")
	require.Equal(t, exitFailed, got.code, "with both it goes on to the configuration")
}
