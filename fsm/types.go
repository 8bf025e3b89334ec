package fsm

// names are how a command is called in metrics and messages.
var names = map[Type]string{
	TypeBatch:              "batch",
	TypeTick:               "tick",
	TypePurge:              "purge",
	TypePutSettings:        "put-settings",
	TypeCreateAgent:        "create-agent",
	TypeUpdateAgent:        "update-agent",
	TypeSetAgentStatus:     "set-agent-status",
	TypeKillAgent:          "kill-agent",
	TypeDeleteAgent:        "delete-agent",
	TypeAddCredential:      "add-credential",
	TypeRemoveCredential:   "remove-credential",
	TypeCreatePrincipal:    "create-principal",
	TypeUpdatePrincipal:    "update-principal",
	TypeSetPrincipalStatus: "set-principal-status",
	TypeKillPrincipal:      "kill-principal",
	TypeDeletePrincipal:    "delete-principal",
	TypeCreateApplication:  "create-application",
	TypeUpdateApplication:  "update-application",
	TypeDeleteApplication:  "delete-application",
	TypeCreateDelegation:   "create-delegation",
	TypeWithdrawDelegation: "withdraw-delegation",
	TypeRevoke:             "revoke",
	TypeCreateAPIToken:     "create-api-token",
	TypeDeleteAPIToken:     "delete-api-token",
	TypeCreateJoinToken:    "create-join-token",
	TypeAdmitMember:        "admit-member",
	TypeUpdateMember:       "update-member",
	TypeRemoveMember:       "remove-member",
	TypeBarMember:          "bar-member",
	TypeDrainMember:        "drain-member",
	TypeRotateKey:          "rotate-key",
	TypeRotateGossip:       "rotate-gossip",
	TypeRecover:            "recover",
	TypeBeginRestore:       "begin-restore",
	TypeImport:             "import",
	TypeEndRestore:         "end-restore",
	TypeOpenMinting:        "open-minting",
	TypePublishKey:         "publish-key",
	TypeRetireKey:          "retire-key",
	TypeTrustIssuer:        "trust-issuer",
	TypeDistrustIssuer:     "distrust-issuer",
	TypePutPolicy:          "put-policy",
	TypeSetPolicyMode:      "set-policy-mode",
	TypeDeletePolicy:       "delete-policy",
	TypeRequestApproval:    "request-approval",
	TypeDecideApproval:     "decide-approval",
	TypeConsumeApproval:    "consume-approval",
}

// decodeBody reads the body of one type. The types it does not list are unknown to this build.
func decodeBody(t Type, data []byte, s *shared) (Body, error) {
	switch t {
	case TypeBatch:
		return decodeBatch(data, s)
	case TypeTick:
		return strict[Tick](data)
	case TypePurge:
		return strict[Purge](data)
	case TypePutSettings:
		return strict[PutSettings](data)
	case TypeCreateAgent:
		return strict[CreateAgent](data)
	case TypeUpdateAgent:
		return strict[UpdateAgent](data)
	case TypeSetAgentStatus:
		return strict[SetAgentStatus](data)
	case TypeKillAgent:
		return strict[KillAgent](data)
	case TypeDeleteAgent:
		return strict[DeleteAgent](data)
	case TypeAddCredential:
		return strict[AddCredential](data)
	case TypeRemoveCredential:
		return strict[RemoveCredential](data)
	case TypeCreatePrincipal:
		return strict[CreatePrincipal](data)
	case TypeUpdatePrincipal:
		return strict[UpdatePrincipal](data)
	case TypeSetPrincipalStatus:
		return strict[SetPrincipalStatus](data)
	case TypeKillPrincipal:
		return strict[KillPrincipal](data)
	case TypeDeletePrincipal:
		return strict[DeletePrincipal](data)
	case TypeCreateApplication:
		return strict[CreateApplication](data)
	case TypeUpdateApplication:
		return strict[UpdateApplication](data)
	case TypeDeleteApplication:
		return strict[DeleteApplication](data)
	case TypeCreateDelegation:
		var b CreateDelegation
		if quickCreateDelegation(data, &b, s) {
			return b, nil
		}
		return strict[CreateDelegation](data)
	case TypeWithdrawDelegation:
		return strict[WithdrawDelegation](data)
	case TypeRevoke:
		return strict[Revoke](data)
	case TypeCreateAPIToken:
		return strict[CreateAPIToken](data)
	case TypeDeleteAPIToken:
		return strict[DeleteAPIToken](data)
	case TypeCreateJoinToken:
		return strict[CreateJoinToken](data)
	case TypeAdmitMember:
		return strict[AdmitMember](data)
	case TypeUpdateMember:
		return strict[UpdateMember](data)
	case TypeRemoveMember:
		return strict[RemoveMember](data)
	case TypeBarMember:
		return strict[BarMember](data)
	case TypeDrainMember:
		return strict[DrainMember](data)
	case TypeRotateKey:
		return strict[RotateKey](data)
	case TypeRotateGossip:
		return strict[RotateGossip](data)
	case TypeRecover:
		return strict[Recover](data)
	case TypeBeginRestore:
		return strict[BeginRestore](data)
	case TypeImport:
		return strict[Import](data)
	case TypeEndRestore:
		return strict[EndRestore](data)
	case TypeOpenMinting:
		return strict[OpenMinting](data)
	case TypePublishKey:
		return strict[PublishKey](data)
	case TypeRetireKey:
		return strict[RetireKey](data)
	case TypeTrustIssuer:
		return strict[TrustIssuer](data)
	case TypeDistrustIssuer:
		return strict[DistrustIssuer](data)
	case TypePutPolicy:
		return strict[PutPolicy](data)
	case TypeSetPolicyMode:
		return strict[SetPolicyMode](data)
	case TypeDeletePolicy:
		return strict[DeletePolicy](data)
	case TypeRequestApproval:
		return strict[RequestApproval](data)
	case TypeDecideApproval:
		return strict[DecideApproval](data)
	case TypeConsumeApproval:
		return strict[ConsumeApproval](data)
	default:
		return nil, &UnknownError{Type: t}
	}
}

// Type implements Body.
func (Batch) Type() Type { return TypeBatch }

// Type implements Body.
func (Tick) Type() Type { return TypeTick }

// Type implements Body.
func (Purge) Type() Type { return TypePurge }

// Type implements Body.
func (PutSettings) Type() Type { return TypePutSettings }

// Type implements Body.
func (CreateAgent) Type() Type { return TypeCreateAgent }

// Type implements Body.
func (UpdateAgent) Type() Type { return TypeUpdateAgent }

// Type implements Body.
func (SetAgentStatus) Type() Type { return TypeSetAgentStatus }

// Type implements Body.
func (KillAgent) Type() Type { return TypeKillAgent }

// Type implements Body.
func (DeleteAgent) Type() Type { return TypeDeleteAgent }

// Type implements Body.
func (AddCredential) Type() Type { return TypeAddCredential }

// Type implements Body.
func (RemoveCredential) Type() Type { return TypeRemoveCredential }

// Type implements Body.
func (CreatePrincipal) Type() Type { return TypeCreatePrincipal }

// Type implements Body.
func (UpdatePrincipal) Type() Type { return TypeUpdatePrincipal }

// Type implements Body.
func (SetPrincipalStatus) Type() Type { return TypeSetPrincipalStatus }

// Type implements Body.
func (KillPrincipal) Type() Type { return TypeKillPrincipal }

// Type implements Body.
func (DeletePrincipal) Type() Type { return TypeDeletePrincipal }

// Type implements Body.
func (CreateApplication) Type() Type { return TypeCreateApplication }

// Type implements Body.
func (UpdateApplication) Type() Type { return TypeUpdateApplication }

// Type implements Body.
func (DeleteApplication) Type() Type { return TypeDeleteApplication }

// Type implements Body.
func (CreateDelegation) Type() Type { return TypeCreateDelegation }

// Type implements Body.
func (WithdrawDelegation) Type() Type { return TypeWithdrawDelegation }

// Type implements Body.
func (Revoke) Type() Type { return TypeRevoke }

// Type implements Body.
func (CreateAPIToken) Type() Type { return TypeCreateAPIToken }

// Type implements Body.
func (DeleteAPIToken) Type() Type { return TypeDeleteAPIToken }

// Type implements Body.
func (CreateJoinToken) Type() Type { return TypeCreateJoinToken }

// Type implements Body.
func (AdmitMember) Type() Type { return TypeAdmitMember }

// Type implements Body.
func (UpdateMember) Type() Type { return TypeUpdateMember }

// Type implements Body.
func (RemoveMember) Type() Type { return TypeRemoveMember }

// Type implements Body.
func (BarMember) Type() Type { return TypeBarMember }

// Type implements Body.
func (DrainMember) Type() Type { return TypeDrainMember }

// Type implements Body.
func (RotateKey) Type() Type { return TypeRotateKey }

// Type implements Body.
func (RotateGossip) Type() Type { return TypeRotateGossip }

// Type implements Body.
func (Recover) Type() Type { return TypeRecover }

// Type implements Body.
func (BeginRestore) Type() Type { return TypeBeginRestore }

// Type implements Body.
func (Import) Type() Type { return TypeImport }

// Type implements Body.
func (EndRestore) Type() Type { return TypeEndRestore }

// Type implements Body.
func (OpenMinting) Type() Type { return TypeOpenMinting }

// Type implements Body.
func (PublishKey) Type() Type { return TypePublishKey }

// Type implements Body.
func (RetireKey) Type() Type { return TypeRetireKey }

// Type implements Body.
func (TrustIssuer) Type() Type { return TypeTrustIssuer }

// Type implements Body.
func (DistrustIssuer) Type() Type { return TypeDistrustIssuer }

// Type implements Body.
func (PutPolicy) Type() Type { return TypePutPolicy }

// Type implements Body.
func (SetPolicyMode) Type() Type { return TypeSetPolicyMode }

// Type implements Body.
func (DeletePolicy) Type() Type { return TypeDeletePolicy }

// Type implements Body.
func (RequestApproval) Type() Type { return TypeRequestApproval }

// Type implements Body.
func (DecideApproval) Type() Type { return TypeDecideApproval }

// Type implements Body.
func (ConsumeApproval) Type() Type { return TypeConsumeApproval }

func (Batch) sealed()              {}
func (Tick) sealed()               {}
func (Purge) sealed()              {}
func (PutSettings) sealed()        {}
func (CreateAgent) sealed()        {}
func (UpdateAgent) sealed()        {}
func (SetAgentStatus) sealed()     {}
func (KillAgent) sealed()          {}
func (DeleteAgent) sealed()        {}
func (AddCredential) sealed()      {}
func (RemoveCredential) sealed()   {}
func (CreatePrincipal) sealed()    {}
func (UpdatePrincipal) sealed()    {}
func (SetPrincipalStatus) sealed() {}
func (KillPrincipal) sealed()      {}
func (DeletePrincipal) sealed()    {}
func (CreateApplication) sealed()  {}
func (UpdateApplication) sealed()  {}
func (DeleteApplication) sealed()  {}
func (CreateDelegation) sealed()   {}
func (WithdrawDelegation) sealed() {}
func (Revoke) sealed()             {}
func (CreateAPIToken) sealed()     {}
func (DeleteAPIToken) sealed()     {}
func (CreateJoinToken) sealed()    {}
func (AdmitMember) sealed()        {}
func (UpdateMember) sealed()       {}
func (RemoveMember) sealed()       {}
func (BarMember) sealed()          {}
func (DrainMember) sealed()        {}
func (RotateKey) sealed()          {}
func (RotateGossip) sealed()       {}
func (Recover) sealed()            {}
func (BeginRestore) sealed()       {}
func (Import) sealed()             {}
func (EndRestore) sealed()         {}
func (OpenMinting) sealed()        {}
func (PublishKey) sealed()         {}
func (RetireKey) sealed()          {}
func (TrustIssuer) sealed()        {}
func (DistrustIssuer) sealed()     {}
func (PutPolicy) sealed()          {}
func (SetPolicyMode) sealed()      {}
func (DeletePolicy) sealed()       {}
func (RequestApproval) sealed()    {}
func (DecideApproval) sealed()     {}
func (ConsumeApproval) sealed()    {}
