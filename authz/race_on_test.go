//go:build race

package authz

// raceAllocations come on top under the race detector, where sync.Pool throws
// things away at random.
const raceAllocations = 4
