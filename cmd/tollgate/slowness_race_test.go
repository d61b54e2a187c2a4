//go:build race

package main

// slowness divides how much a test does where the race detector makes it slow.
const slowness = 10
