package api

import "github.com/deputy-id/deputy/api/wire"

func clusterRoutes() []Route {
	return []Route{
		{
			Method: "GET", Path: "/api/v1/cluster/members", Name: "listMembers", Kind: KindRead, Roles: watchers,
			Response: []wire.Member{}, Status: 200, Summary: "List the nodes, as this one sees them", handler: (*API).listMembers,
		},
		{
			Method: "POST", Path: "/api/v1/cluster/join-tokens", Name: "createJoinToken", Kind: KindWrite, Roles: operators, Query: writeQuery,
			Request: wire.JoinTokenRequest{}, Optional: true, Response: wire.JoinToken{}, Status: 201, Summary: "Make a token that lets one node join, once", handler: (*API).createJoinToken,
		},
		{
			Method: "DELETE", Path: "/api/v1/cluster/members/{id}", Name: "removeMember", Kind: KindWrite, Roles: operators, Slow: true,
			Query: writing(queryReason, Param{"force", "true: also where too few live voters would remain", "boolean"},
				Param{"compromised", "true: its keys may be in wrong hands, so revoke whatever it signed", "boolean"}),
			Response: wire.RemovedMember{}, Status: 200, Summary: "Remove a node for good", handler: (*API).removeMember,
		},
		{
			Method: "POST", Path: "/api/v1/cluster/members/{id}/drain", Name: "drainMember", Kind: KindWrite, Roles: operators, Query: writeQuery,
			Request: wire.DrainRequest{}, Optional: true, Response: wire.Drain{}, Status: 200, Summary: "Have a node mint nothing and lead no more, or end that", handler: (*API).drainMember,
		},
		{
			Method: "POST", Path: "/api/v1/cluster/members/{id}/rotate-key", Name: "rotateKey", Kind: KindWrite, Roles: operators, Query: writeQuery,
			Response: wire.Change{}, Status: 200, Summary: "Have a node make a new token key; the one before verifies until its last token ends", handler: (*API).rotateKey,
		},
		{
			Method: "POST", Path: "/api/v1/cluster/rotate-keys", Name: "rotateKeys", Kind: KindWrite, Roles: operators, Query: writeQuery,
			Response: wire.Change{}, Status: 200, Summary: "Have every node make a new token key", handler: (*API).rotateKeys,
		},
		{
			Method: "POST", Path: "/api/v1/cluster/rotate-gossip-key", Name: "rotateGossipKey", Kind: KindWrite, Roles: operators, Query: writeQuery,
			Response: wire.Change{}, Status: 200, Summary: "Begin to replace the key that gossip is encrypted with: add, use, remove", handler: (*API).rotateGossipKey,
		},
		{
			Method: "GET", Path: "/api/v1/cluster/freshness", Name: "getFreshness", Kind: KindRead, Roles: watchers,
			Response: wire.NodeStatus{}, Status: 200, Summary: "Tell whether this node may speak, and why not", handler: (*API).getFreshness,
		},
		{
			Method: "GET", Path: "/api/v1/cluster/status", Name: "getStatus", Kind: KindRead, Roles: watchers,
			Response: []wire.NodeStatus{}, Status: 200, Summary: "Ask every node how it is", handler: (*API).getStatus,
		},
		{
			Method: "GET", Path: snapshotPath, Name: "saveSnapshot", Kind: KindRead, Roles: admins, Produces: mediaBinary,
			Response: []byte{}, Status: 200, Summary: "Back the state up: no signing keys, join tokens or members, but the hashes of secrets", handler: (*API).saveSnapshot,
		},
		{
			Method: "POST", Path: snapshotPath, Name: "restoreSnapshot", Kind: KindLead, Roles: admins, Media: mediaBinary,
			Request: []byte{}, Response: wire.Restored{}, Status: 200, Summary: "Restore a backup into a cluster that holds nothing yet; asked of the leader", handler: (*API).restoreSnapshot,
		},
		{
			Method: "POST", Path: "/api/v1/cluster/open", Name: "openMinting", Kind: KindWrite, Roles: admins, Query: writeQuery,
			Response: wire.Change{}, Status: 200, Summary: "Mint again after a restore or a recovery, once later revocations were replayed", handler: (*API).openMinting,
		},
		{
			Method: "POST", Path: "/api/v1/cluster/transfer-leadership", Name: "transferLeadership", Kind: KindWrite, Roles: operators, Query: writeQuery, Once: true,
			Request: wire.TransferRequest{}, Optional: true, Response: wire.Transfer{}, Status: 200, Summary: "Have another voter lead", handler: (*API).transferLeadership,
		},
		{
			Method: "POST", Path: "/api/v1/api-tokens", Name: "createAPIToken", Kind: KindWrite, Roles: admins, Query: writeQuery,
			Request: wire.APITokenRequest{}, Response: wire.APIToken{}, Status: 201, Summary: "Make an API token, shown once", handler: (*API).createAPIToken,
		},
		{
			Method: "GET", Path: "/api/v1/api-tokens", Name: "listAPITokens", Kind: KindRead, Roles: auditors, Query: paging,
			Response: []wire.APIToken{}, Status: 200, Summary: "List API tokens, without their secrets", handler: (*API).listAPITokens,
		},
		{
			Method: "DELETE", Path: "/api/v1/api-tokens/{id}", Name: "deleteAPIToken", Kind: KindWrite, Roles: admins, Query: writeQuery,
			Response: wire.Deleted{}, Status: 200, Summary: "Delete an API token and end what was minted with it", handler: (*API).deleteAPIToken, stops: (*API).stopAPIToken,
		},
		{
			Method: "GET", Path: "/api/v1/settings", Name: "getSettings", Kind: KindRead, Roles: readers,
			Response: wire.Settings{}, Status: 200, Summary: "What holds for the whole cluster", handler: (*API).getSettings,
		},
		{
			Method: "PATCH", Path: "/api/v1/settings", Name: "patchSettings", Kind: KindWrite, Roles: admins, Query: writeQuery, Media: mediaMergePatch,
			Request: wire.SettingsUpdate{}, Response: wire.Settings{}, Status: 200, Summary: "Change some of the settings (RFC 7396)", handler: (*API).patchSettings,
		},
	}
}
