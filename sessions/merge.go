package sessions

import (
	"slices"
	"strings"
)

// Merge makes one page of those that several nodes have answered to one query. It ends where the first of them ends that
// has more behind it: nobody knows what that node has beyond.
func Merge(pages []Page, limit int) Page {
	var all Page
	for i := range pages {
		p := &pages[i]
		all.Sessions = append(all.Sessions, p.Sessions...)
		if p.More && (!all.More || p.Through < all.Through) {
			all.More, all.Through = true, p.Through
		}
	}
	slices.SortStableFunc(all.Sessions, func(a, b Entry) int { return strings.Compare(a.ID, b.ID) })
	all.Sessions = slices.CompactFunc(all.Sessions, func(a, b Entry) bool { return a.ID == b.ID })
	if all.More {
		end, found := slices.BinarySearchFunc(all.Sessions, all.Through, func(e Entry, id string) int { return strings.Compare(e.ID, id) })
		if found {
			end++
		}
		all.Sessions = all.Sessions[:end]
	}
	if len(all.Sessions) > limit {
		all.Sessions = all.Sessions[:limit]
		all.More, all.Through = true, all.Sessions[limit-1].ID
	}
	return all
}
