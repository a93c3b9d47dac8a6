package readmodels

import (
	"maps"
	"slices"

	"github.com/tenure-dev/tenure/domain"
)

// UnitAmount is an amount of something with a name.
type UnitAmount struct {
	Unit   string `json:"unit"`
	Amount int64  `json:"amount"`
}

// Label is a word about a data plane.
type Label struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// amounts lists units by name: rows hold no maps.
func amounts(units domain.Units) []UnitAmount {
	var all []UnitAmount
	for _, unit := range slices.Sorted(maps.Keys(units)) {
		all = append(all, UnitAmount{unit, units[unit]})
	}
	return all
}

// add adds units, times sign, to amounts in the order of their names. What comes to nothing is left out.
func add(all []UnitAmount, units domain.Units, sign int64) []UnitAmount {
	sum := domain.Units{}
	for _, a := range all {
		sum[a.Unit] = a.Amount
	}
	for unit, n := range units {
		if sum[unit] += sign * n; sum[unit] == 0 {
			delete(sum, unit)
		}
	}
	return amounts(sum)
}

func labels(all map[string]string) []Label {
	var list []Label
	for _, key := range slices.Sorted(maps.Keys(all)) {
		list = append(list, Label{key, all[key]})
	}
	return list
}
