package fsm

import (
	"fmt"

	"github.com/hashicorp/go-memdb"

	"github.com/deputy-id/deputy/identity"
)

// The small tables: what operators and nodes read, thousands of rows at most.
const (
	tableAPITokens  = "api-tokens"
	tableJoinTokens = "join-tokens"
	tableMembers    = "members"
	tableKeys       = "signing-keys"
	tableIssuers    = "trusted-issuers"

	indexID   = "id"
	indexHash = "hash"
	indexKey  = "key"
	indexURL  = "url"
)

// textIndex indexes rows of type T by one text, byte for byte.
type textIndex[T any] struct{ text func(*T) string }

// FromObject implements memdb.SingleIndexer.
func (x textIndex[T]) FromObject(row any) (bool, []byte, error) {
	r, ok := row.(*T)
	if !ok {
		return false, nil, fmt.Errorf("BUG: a %T in a table of %T", row, r)
	}
	return true, []byte(x.text(r)), nil
}

// FromArgs implements memdb.Indexer.
func (x textIndex[T]) FromArgs(args ...any) ([]byte, error) {
	text, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("BUG: looked up by %T", args[0])
	}
	return []byte(text), nil
}

func index[T any](name string, text func(*T) string) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Unique: true, Indexer: textIndex[T]{text}}
}

func table(name string, indexes ...*memdb.IndexSchema) *memdb.TableSchema {
	t := &memdb.TableSchema{Name: name, Indexes: make(map[string]*memdb.IndexSchema, len(indexes))}
	for _, x := range indexes {
		t.Indexes[x.Name] = x
	}
	return t
}

func newSmall() *memdb.MemDB {
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		tableAPITokens: table(tableAPITokens,
			index(indexID, func(t *identity.APIToken) string { return t.ID }),
			index(indexHash, func(t *identity.APIToken) string { return string(t.Hash) })),
		tableJoinTokens: table(tableJoinTokens,
			index(indexID, func(t *identity.JoinToken) string { return t.ID }),
			index(indexHash, func(t *identity.JoinToken) string { return string(t.Hash) })),
		tableMembers: table(tableMembers,
			index(indexID, func(m *identity.Member) string { return m.ID }),
			index(indexKey, func(m *identity.Member) string { return string(m.Key) })),
		tableKeys: table(tableKeys,
			index(indexID, func(k *identity.SigningKey) string { return k.KID })),
		tableIssuers: table(tableIssuers,
			index(indexID, func(t *identity.TrustedIssuer) string { return t.ID }),
			index(indexURL, func(t *identity.TrustedIssuer) string { return t.Issuer })),
	}})
	must(err)
	return db
}

// must stops on what only a schema that does not fit its code can cause; no input can.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
}

func first[T any](txn *memdb.Txn, table, index, key string) (*T, bool) {
	row, err := txn.First(table, index, key)
	must(err)
	if row == nil {
		return nil, false
	}
	return row.(*T), true
}

// list returns at most limit rows by id, strictly after the one given.
func list[T any](txn *memdb.Txn, table, after string, limit int) []*T {
	rows, err := txn.LowerBound(table, indexID, after)
	must(err)
	_, skip, err := txn.FirstWatch(table, indexID, after)
	must(err)
	var out []*T
	for row := rows.Next(); row != nil && len(out) < limit; row = rows.Next() {
		if skip != nil && row == skip {
			continue
		}
		out = append(out, row.(*T))
	}
	return out
}

func count[T any](txn *memdb.Txn, table string, which func(*T) bool) int {
	n := 0
	for _, row := range list[T](txn, table, "", maxRows) {
		if which(row) {
			n++
		}
	}
	return n
}
