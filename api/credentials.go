package api

import (
	"encoding/json"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// credentialOwner says whose credentials a route is about.
type credentialOwner fsm.OwnerKind

const (
	ownerAgent       = credentialOwner(fsm.OwnerAgent)
	ownerApplication = credentialOwner(fsm.OwnerApplication)
)

func showCredential(c *identity.Credential) wire.Credential {
	return wire.Credential{
		ID: c.ID, Kind: c.Kind, JWKS: rawKeys(c.Keys), JWKSURI: c.KeysURI, CreatedAt: c.Created, ExpiresAt: c.Expires,
	}
}

func showCredentials(credentials []identity.Credential) []wire.Credential {
	shown := make([]wire.Credential, len(credentials))
	for i := range credentials {
		shown[i] = showCredential(&credentials[i])
	}
	return shown
}

func showNewCredential(owner string, c *identity.Credential, secret string) *wire.NewCredential {
	return &wire.NewCredential{
		ID: c.ID, Kind: c.Kind, ClientID: owner, Secret: shown(secret, c.Hash), JWKS: rawKeys(c.Keys), JWKSURI: c.KeysURI,
		CreatedAt: c.Created, ExpiresAt: c.Expires,
	}
}

// newCredential makes a secret and the credential that stores its hash.
func (c *call) newCredential(expires identity.Instant) (identity.Credential, string) {
	secret := c.secret(prefixClientSecret)
	hash := identity.HashSecret(secret)
	return identity.Credential{
		ID: c.newID(identity.PrefixCredential), Kind: identity.CredentialSecret, Hash: hash[:], Created: c.now, Expires: expires,
	}, secret
}

// requested makes the credential that a request asks for. One of keys has no secret.
func (c *call) requested(r *wire.CredentialRequest) (credential identity.Credential, secret string, err error) {
	if len(r.JWKS) == 0 && r.JWKSURI == "" {
		credential, secret = c.newCredential(r.ExpiresAt)
		return credential, secret, nil
	}
	keys, err := publicKeys("/jwks", r.JWKS)
	if err != nil {
		return credential, "", err
	}
	credential = identity.Credential{
		ID: c.newID(identity.PrefixCredential), Kind: identity.CredentialKeys, Keys: keys, KeysURI: r.JWKSURI,
		Created: c.now, Expires: r.ExpiresAt,
	}
	return credential, "", credential.Validate()
}

// rawKeys shows a set of keys that was stored.
func rawKeys(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// wantCredential reads ?credentials=secret and, where it is there, adds a credential.
func (c *call) wantCredential(to *[]identity.Credential) (secret string, err error) {
	switch wish := c.query("credentials"); wish {
	case "":
		return "", nil
	case "secret":
		credential, secret := c.newCredential(0)
		*to = append(*to, credential)
		return secret, nil
	default:
		return "", invalidParameter("credentials", "is %.40q; it must be secret", wish)
	}
}

// showNewest shows the credential that an object was made with, if it was.
func showNewest(owner string, credentials []identity.Credential, secret string) *wire.NewCredential {
	if secret == "" || len(credentials) == 0 {
		return nil
	}
	return showNewCredential(owner, &credentials[len(credentials)-1], secret)
}

// find returns the owner that the path names, and its credentials.
func (o credentialOwner) find(c *call) (fsm.Owner, []identity.Credential, error) {
	if o == ownerAgent {
		agent, err := c.agent()
		if err != nil {
			return fsm.Owner{}, nil, err
		}
		return fsm.Owner{Kind: fsm.OwnerAgent, Name: agent.Name}, agent.Credentials, nil
	}
	application, err := c.application()
	if err != nil {
		return fsm.Owner{}, nil, err
	}
	return fsm.Owner{Kind: fsm.OwnerApplication, Name: application.Name}, application.Credentials, nil
}

func (o credentialOwner) add(a *API, c *call) error {
	owner, _, err := o.find(c)
	if err != nil {
		return err
	}
	var request wire.CredentialRequest
	if err := c.optionalBody(&request); err != nil {
		return err
	}
	if !request.ExpiresAt.IsZero() && request.ExpiresAt <= c.now {
		return invalidField("/expires_at", "lies in the past")
	}
	credential, secret, err := c.requested(&request)
	if err != nil {
		return err
	}
	added, _, err := proposed[*identity.Credential](a, c, fsm.AddCredential{Owner: owner, Credential: credential})
	if err != nil {
		return err
	}
	return c.created(string(c.ctx.Path()), added.ID, showNewCredential(owner.Name, added, secret))
}

func (o credentialOwner) list(_ *API, c *call) error {
	_, credentials, err := o.find(c)
	if err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, showCredentials(credentials))
}

func (o credentialOwner) remove(a *API, c *call) error {
	owner, _, err := o.find(c)
	if err != nil {
		return err
	}
	id, err := c.param("credential")
	if err != nil {
		return err
	}
	if _, err := identity.ParseID(identity.PrefixCredential, id); err != nil {
		return notFound("credential", id)
	}
	reason, err := c.reason()
	if err != nil {
		return err
	}
	revoked, result, err := stopped[*fsm.Revoked](a, c, fsm.RemoveCredential{Owner: owner, ID: id, Reason: reason})
	if err != nil {
		return err
	}
	return c.answerStop(&wire.Deleted{ID: id, Handles: revoked.Handles, Known: revoked.Known, Index: result.Index}, revoked.Handles)
}
