//go:build !race

package authz

const raceAllocations = 0
