package api

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// decode reads a request body into one of wire's types. Unlike encoding/json it refuses unknown and repeated
// fields, fields in another case and trailing data, and says by JSON pointer where the trouble is.
//
// It works by reflection and so is for the admin surface; the hot path reads its few fields by hand.
func decode(data []byte, into any) error {
	r := &jsonReader{data: data}
	if r.next() == 0 {
		return identity.Errorf(identity.CodeInvalid, "the request has no body").WithHint("send a JSON object")
	}
	var err error
	if delegation, ok := into.(*wire.DelegationRequest); ok {
		err = decodeDelegation(r, delegation)
	} else {
		err = decodeValue(r, reflect.ValueOf(into).Elem(), false)
	}
	if err != nil {
		return err
	}
	return r.end()
}

// decodeDelegation is decodeValue for what comes by the thousand a second.
func decodeDelegation(r *jsonReader, into *wire.DelegationRequest) error {
	return decodeFields(r, delegationType, func(f *field) (err error) {
		if f.optional && r.null() {
			return nil
		}
		switch f.name {
		case "principal_id":
			into.PrincipalID, err = r.str()
		case "agent_id":
			into.AgentID, err = r.str()
		case "scopes":
			into.Scopes, err = r.scopes()
		case "duration_seconds":
			into.Duration, err = r.integer()
		case "reason":
			into.Reason, err = r.str()
		case "origin":
			into.Origin, err = r.str()
		case "max_hops":
			into.MaxHops, err = r.integer()
		default:
			panic("BUG: nobody reads the field " + f.name)
		}
		return err
	})
}

var (
	delegationType = reflect.TypeFor[wire.DelegationRequest]()

	scopesType = reflect.TypeFor[identity.Scopes]()
	textType   = reflect.TypeFor[encoding.TextUnmarshaler]()
	rawType    = reflect.TypeFor[json.RawMessage]()
)

// maxElements bounds the arrays of a body. The body itself is bounded already; this keeps hopeless ones cheap.
const maxElements = 4096

func decodeValue(r *jsonReader, v reflect.Value, nullable bool) error {
	return decodeAs(r, v, nullable, readsText(v.Type()))
}

// readsText reports whether a type reads itself from text.
func readsText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// decodeAs is decodeValue where it is known whether the type reads itself from text, which takes longer to find out than
// to read most values.
func decodeAs(r *jsonReader, v reflect.Value, nullable, text bool) error {
	if nullable && r.null() {
		v.SetZero()
		return nil
	}
	t := v.Type()
	switch {
	case t == scopesType:
		scopes, err := r.scopes()
		if err == nil {
			v.SetString(string(scopes))
		}
		return err
	case t == rawType: // an object that another format defines; its bytes are the request's
		if r.next() != '{' {
			return r.wrong("an object")
		}
		start := r.pos
		_, err := r.any()
		v.SetBytes(r.data[start:r.pos:r.pos])
		return err
	case text:
		text, err := r.str()
		if err != nil {
			return err
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			return r.fail("%v", err)
		}
		return nil
	}
	switch t.Kind() {
	case reflect.String:
		text, err := r.str()
		v.SetString(text)
		return err
	case reflect.Int64:
		n, err := r.integer()
		v.SetInt(n)
		return err
	case reflect.Bool:
		b, err := r.boolean()
		v.SetBool(b)
		return err
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		return decodeValue(r, v.Elem(), false)
	case reflect.Slice:
		v.SetZero()
		return r.array(func(i int) error {
			if i >= maxElements {
				return r.fail("is one entry too many; at most %d are allowed", maxElements)
			}
			v.Grow(1)
			v.SetLen(i + 1)
			return decodeValue(r, v.Index(i), false)
		})
	case reflect.Map:
		m := map[string]string{}
		v.Set(reflect.ValueOf(m))
		return r.object(func(name []byte) error {
			if _, repeated := m[string(name)]; repeated {
				return r.fail("is there twice")
			}
			key := string(name)
			text, err := r.str()
			m[key] = text
			return err
		})
	case reflect.Struct:
		return decodeStruct(r, v)
	}
	panic("BUG: no request field is of type " + t.String())
}

// scopes reads a list of scopes.
func (r *jsonReader) scopes() (identity.Scopes, error) {
	names, err := r.strings(maxElements)
	if err != nil {
		return "", err
	}
	scopes, err := identity.NewScopes(names)
	if err != nil {
		return "", r.fail("%v", err)
	}
	return scopes, nil
}

func decodeStruct(r *jsonReader, v reflect.Value) error {
	return decodeFields(r, v.Type(), func(f *field) error { return decodeAs(r, v.FieldByIndex(f.path), f.optional, f.text) })
}

// decodeFields has read each field of a struct, of which none is unknown or comes twice.
func decodeFields(r *jsonReader, t reflect.Type, read func(f *field) error) error {
	fields := fieldsOf(t)
	var seen uint64 // one bit a field; no body has more than 64
	return r.object(func(name []byte) error {
		f, known := fields.byName[string(name)]
		if !known {
			return r.fail("is unknown; the fields here are %s", fields.names)
		}
		if seen&(1<<f.index) != 0 {
			return r.fail("is there twice")
		}
		seen |= 1 << f.index
		return read(f)
	})
}

type field struct {
	index    int // among all, also those of embedded structs
	path     []int
	name     string
	optional bool
	text     bool // see readsText
	doc      string
}

type structFields struct {
	list   []field
	byName map[string]*field
	names  string
}

var fieldCache sync.Map // reflect.Type → *structFields; as many as wire has types

// fieldsOf reads the json and doc tags of a wire type.
func fieldsOf(t reflect.Type) *structFields {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.(*structFields)
	}
	s := &structFields{byName: map[string]*field{}}
	var names []string
	for _, tag := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(tag.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		f := field{
			index: len(s.list), path: tag.Index, name: name, optional: options == "omitempty", text: readsText(tag.Type), doc: tag.Tag.Get("doc"),
		}
		s.list = append(s.list, f)
		s.byName[name] = &f
		names = append(names, name)
	}
	s.names = strings.Join(names, ", ")
	fieldCache.Store(t, s)
	return s
}

// mergePatch applies an RFC 7396 patch to the request form of an object and reads the outcome strictly, so that
// a patch can't name a field which a create could not.
func mergePatch[T any](current T, patch []byte) (T, error) {
	var merged T
	r := &jsonReader{data: patch}
	if r.next() == 0 {
		return merged, identity.Errorf(identity.CodeInvalid, "the request has no body").WithHint("send a JSON object (RFC 7396)")
	}
	if r.next() != '{' {
		return merged, r.wrong("an object")
	}
	change, err := r.any()
	if err != nil {
		return merged, err
	}
	if err := r.end(); err != nil {
		return merged, err
	}
	var target any
	if err := json.Unmarshal(encodeJSON(current), &target); err != nil {
		return merged, err
	}
	err = decode(encodeJSON(merge(target, change)), &merged)
	return merged, err
}

// merge is the algorithm of RFC 7396 section 2. Its depth is that of the patch, which the reader bounds.
func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, change := range changes {
		if change == nil {
			delete(object, name)
			continue
		}
		object[name] = merge(object[name], change)
	}
	return object
}
