package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// object is a JSON object of the document; encoding/json writes its members sorted, so that the same table
// always gives the same bytes.
type object = map[string]any

// description is the OpenAPI document, and the entity tag that changes with it.
type description struct {
	text []byte
	tag  string
}

// describe makes the OpenAPI 3.1 document from the route table and the wire types.
func describe(routes []Route, version string) (description, error) {
	if version == "" {
		version = "0"
	}
	s := schemas{components: object{}}
	paths := object{}
	for i := range routes {
		r := &routes[i]
		item, ok := paths[r.Path].(object)
		if !ok {
			item = object{}
			paths[r.Path] = item
		}
		item[lower(r.Method)] = s.operation(r)
	}
	document, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Deputy", "version": version,
			"description": "The identity layer for AI agents: every node mints and checks signed agent tokens, and revocation is provable.",
			"license":     object{"name": "See the LICENSE file"},
		},
		"paths": paths,
		"components": object{
			"schemas": s.components,
			"securitySchemes": object{
				"token":  object{"type": "apiKey", "in": "header", "name": "Authorization", "description": "SSWS <API token>"},
				"bearer": object{"type": "http", "scheme": "bearer", "description": "the same API token as a bearer"},
				"user":   object{"type": "http", "scheme": "bearer", "description": "an ID token of a trusted issuer"},
				"client": object{"type": "http", "scheme": "basic", "description": "client_id and client_secret of an agent or application (RFC 6749 section 2.3.1)"},
			},
		},
	})
	if err != nil {
		return description{}, fmt.Errorf("writing the OpenAPI document: %w", err)
	}
	digest := sha256.Sum256(document)
	return description{text: document, tag: `"` + base64.RawURLEncoding.EncodeToString(digest[:12]) + `"`}, nil
}

func lower(method string) string {
	b := []byte(method)
	for i := range b {
		b[i] |= 0x20
	}
	return string(b)
}

var pathParameter = regexp.MustCompile(`\{([a-z]+)\}`)

func (s *schemas) operation(r *Route) object {
	operation := object{
		"operationId": r.Name, "summary": r.Summary, "responses": s.responses(r), "security": security(r),
	}
	if len(r.Roles) > 0 {
		roles := []string{string(identity.RoleAdmin)}
		for _, role := range r.Roles {
			if role != identity.RoleAdmin {
				roles = append(roles, string(role))
			}
		}
		operation["x-deputy-roles"] = roles
	}
	parameters := []object{}
	for _, match := range pathParameter.FindAllStringSubmatch(r.Path, -1) {
		parameters = append(parameters, object{"name": match[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range r.Query {
		parameters = append(parameters, object{"name": p.Name, "in": "query", "description": p.Doc, "schema": object{"type": p.Type}})
	}
	if r.Kind == KindWrite {
		parameters = append(parameters, object{
			"name": wire.HeaderIdempotencyKey, "in": "header", "schema": object{"type": "string", "maxLength": wire.MaxIdempotencyKey},
			"description": "repeat the write safely; ignored by whatever revokes",
		})
	}
	if len(parameters) > 0 {
		operation["parameters"] = parameters
	}
	if r.Request != nil {
		operation["requestBody"] = object{"required": !r.Optional, "content": s.requestContent(r)}
	}
	return operation
}

func (s *schemas) requestContent(r *Route) object {
	t := reflect.TypeOf(r.Request)
	switch r.Media {
	case mediaMergePatch:
		patch := object{"schema": s.patch(t)}
		return object{mediaMergePatch: patch, contentTypeJSON: patch}
	case mediaForm:
		return object{mediaForm: object{"schema": s.of(t)}}
	case mediaBinary:
		return object{mediaBinary: binaryBody()}
	}
	return object{contentTypeJSON: object{"schema": s.of(t)}}
}

func (s *schemas) responses(r *Route) object {
	success := object{"description": "done"}
	switch {
	case r.Produces == mediaBinary:
		success["content"] = object{mediaBinary: binaryBody()}
	case r.Produces == mediaEvents:
		success["content"] = object{mediaEvents: object{"schema": object{"type": "string"}, "x-deputy-event": s.of(reflect.TypeOf(r.Response))}}
	case r.Response != nil:
		schema := s.of(reflect.TypeOf(r.Response))
		if r.Or != nil {
			schema = object{"anyOf": []object{schema, s.of(reflect.TypeOf(r.Or))}}
		}
		success["content"] = object{contentTypeJSON: object{"schema": schema}}
	}
	if r.Kind == KindWrite {
		success["headers"] = object{wire.HeaderFenced: object{
			"description": "with wait=fenced: whether no node acts any more on what was before the write; else absent",
			"schema":      object{"type": "string", "enum": []string{"true", "false"}},
		}}
	}
	if r.Kind == KindRead {
		success["headers"] = object{wire.HeaderFresh: object{
			"description": "false: this node can't vouch for its state right now, so the answer may be old; else absent",
			"schema":      object{"type": "string", "enum": []string{"false"}},
		}}
	}
	refused := object{"description": "refused; the type ends in the error's code", "content": object{
		wire.ContentTypeProblem: object{"schema": s.of(reflect.TypeFor[wire.Problem]())},
	}}
	if r.speaksOAuth() {
		refused = object{"description": "refused (RFC 6749 section 5.2)", "content": object{
			contentTypeJSON: object{"schema": s.of(reflect.TypeFor[wire.OAuthError]())},
		}}
	}
	all := object{strconv.Itoa(r.Status): success, "default": refused}
	if r.Kept {
		kept := object{"description": "no majority can be reached: the stop is kept, denied at once, and committed when one is back"}
		kept["content"] = success["content"]
		all["202"] = kept
	}
	if r.Unchanged {
		all["304"] = object{"description": "unchanged since the ETag in If-None-Match"}
	}
	return all
}

// binaryBody is the schema of bytes (OpenAPI 3.1, section 4.8.14.2).
func binaryBody() object {
	return object{"schema": object{"type": "string", "contentMediaType": mediaBinary}}
}

func security(r *Route) []object {
	if r.User {
		return []object{{"user": []string{}}}
	}
	switch r.Kind {
	case KindPublic:
		return []object{}
	case KindRead, KindWrite:
		if r.Clients {
			return []object{{"token": []string{}}, {"bearer": []string{}}, {"client": []string{}}}
		}
	case KindOAuth:
		return []object{{"client": []string{}}, {}} // {}: client_secret_post
	case KindMint:
		return []object{{"token": []string{}}, {"bearer": []string{}}, {"client": []string{}}}
	}
	all := []object{{"token": []string{}}, {"bearer": []string{}}}
	if r.Applications {
		all = append(all, object{"client": []string{}})
	}
	return all
}

// schemas turns Go types into JSON Schema; structs become components under their names.
type schemas struct{ components object }

// enums are the closed sets of words.
var enums = map[reflect.Type][]string{
	reflect.TypeFor[identity.AgentType]():        words(identity.AgentAutonomous, identity.AgentUserDelegated, identity.AgentScheduled),
	reflect.TypeFor[identity.Status]():           words(identity.StatusActive, identity.StatusSuspended, identity.StatusDeactivated),
	reflect.TypeFor[identity.DelegationStatus](): words(identity.DelegationActive, identity.DelegationWithdrawn),
	reflect.TypeFor[identity.Verification]():     words(identity.VerifyOnline, identity.VerifyOffline),
	reflect.TypeFor[identity.CredentialKind]():   words(identity.CredentialSecret, identity.CredentialKeys),
	reflect.TypeFor[identity.PrincipalClaim]():   words(identity.ClaimEmail, identity.ClaimSubject),
	reflect.TypeFor[identity.PolicyMode]():       words(identity.PolicyModes()...),
	reflect.TypeFor[identity.Role]():             words(identity.Roles()...),
}

func words[T ~string](values ...T) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	return list
}

func (s *schemas) of(t reflect.Type) object {
	switch t {
	case scopesType:
		return object{"type": "array", "items": object{"type": "string", "maxLength": identity.MaxScopeLength}, "maxItems": identity.MaxScopes}
	case rawType:
		return object{"type": "object"}
	case reflect.TypeFor[[]byte]():
		return object{"type": "string", "contentEncoding": "base64"}
	case reflect.TypeFor[identity.Instant]():
		return object{"type": "string", "format": "date-time"}
	}
	if values, closed := enums[t]; closed {
		return object{"type": "string", "enum": values}
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Interface:
		return object{}
	case reflect.Struct:
		return s.reference(t)
	}
	panic("BUG: the document has no schema for " + t.String())
}

func (s *schemas) reference(t reflect.Type) object {
	if _, done := s.components[t.Name()]; !done {
		s.components[t.Name()] = object{} // a type may hold itself
		s.components[t.Name()] = s.structure(t)
	}
	return object{"$ref": "#/components/schemas/" + t.Name()}
}

func (s *schemas) structure(t reflect.Type) object {
	properties, required := object{}, []string{}
	for _, f := range fieldsOf(t).list {
		field := t.FieldByIndex(f.path)
		schema := s.of(field.Type)
		if field.Type.Kind() == reflect.Pointer && !f.optional {
			schema = orNull(schema)
		}
		properties[f.name] = documented(schema, f.doc)
		if !f.optional {
			required = append(required, f.name)
		}
	}
	schema := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

// patch is the schema of a merge patch for a request type: nothing is required, and null removes.
func (s *schemas) patch(t reflect.Type) object {
	name := t.Name() + "Patch"
	if _, done := s.components[name]; !done {
		properties := object{}
		for _, f := range fieldsOf(t).list {
			field := t.FieldByIndex(f.path)
			schema := s.of(field.Type)
			if field.Type.Kind() == reflect.Struct {
				schema = s.patch(field.Type)
			}
			properties[f.name] = documented(orNull(schema), f.doc)
		}
		s.components[name] = object{"type": "object", "properties": properties}
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func orNull(schema object) object {
	return object{"anyOf": []object{schema, {"type": "null"}}}
}

// documented adds a description without touching a schema that others share.
func documented(schema object, doc string) object {
	if doc == "" {
		return schema
	}
	copied := object{"description": doc}
	for name, value := range schema {
		copied[name] = value
	}
	return copied
}
