// Package esdb_test is the ground on which the EventStoreDB client's own tests play against our node: it has what those tests
// expect of the file of the same name in the client's repository, which starts containers instead. integration's
// TestClientsOwnTests lays the client's test files over this folder; here are none of them.
package esdb_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/goombaio/namegenerator"
	"github.com/stretchr/testify/require"

	"github.com/tenure-dev/tenure/adapters/eventnode"
)

// NAME_GENERATOR gives names of streams and groups, others in every run and no name twice: the client's own generator does so
// now and then, and the test that gets an old name fails.
var NAME_GENERATOR namegenerator.Generator = &numbered{Generator: namegenerator.NewNameGenerator(time.Now().UnixNano())}

type numbered struct {
	namegenerator.Generator
	n atomic.Int64
}

func (g *numbered) Generate() string { return fmt.Sprintf("%s-%d", g.Generator.Generate(), g.n.Add(1)) }

// Container is a node of ours, where the client's tests expect one in a container.
type Container struct {
	Endpoint string
	node     *eventnode.Node
	served   chan error
}

func GetEnvOrDefault(key, other string) string {
	if value, set := os.LookupEnv(key); set {
		return value
	}
	return other
}

// Close ends the node.
func (c *Container) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.node.Close(ctx); err != nil {
		panic(err)
	}
	if err := <-c.served; err != nil {
		panic(err)
	}
}

func insecure() bool { return GetEnvOrDefault("EVENTSTORE_INSECURE", "true") == "true" }

func cluster() bool { return GetEnvOrDefault("CLUSTER", "false") == "true" }

func start(t *testing.T) *Container {
	options := eventnode.Options{Dir: t.TempDir(), Addr: "127.0.0.1:0", AdvertiseHost: "localhost", Now: time.Now}
	if !insecure() {
		var err error
		options.TLS, err = eventnode.ServerTLS("../certs/node/node.crt", "../certs/node/node.key", time.Now, nil)
		require.NoError(t, err)
		options.Users, err = eventnode.OpenUsers(options.Dir, time.Now, nil)
		require.NoError(t, err)
		require.NoError(t, options.Users.Develop())
	}
	node, err := eventnode.Open(options)
	require.NoError(t, err)
	c := &Container{Endpoint: fmt.Sprintf("localhost:%d", node.Addr().(*net.TCPAddr).Port), node: node, served: make(chan error, 1)}
	go func() { c.served <- node.Serve() }()
	return c
}

// CreateEmptyDatabase gives a node and its client; of a cluster, whose nodes run already, only a client.
func CreateEmptyDatabase(t *testing.T) (*Container, *esdb.Client) {
	if cluster() {
		return nil, GetClient(t, nil)
	}
	c := start(t)
	return c, GetClient(t, c)
}

// CreatePopulatedDatabase gives a node with a stream of 6,000 events. Of the data set that the client's authors keep in an
// image, that is what a test can know without having it.
func CreatePopulatedDatabase(t *testing.T) (*Container, *esdb.Client) {
	if cluster() {
		return nil, nil
	}
	c := start(t)
	client := GetClient(t, c)
	for from := 0; from < 6000; from += 500 {
		events := make([]esdb.EventData, 500)
		for i := range events {
			events[i] = esdb.EventData{EventID: uuid.New(), EventType: "TestEvent", ContentType: esdb.ContentTypeJson, Data: []byte(`{}`)}
		}
		_, err := client.AppendToStream(context.Background(), "dataset20M-0", esdb.AppendToStreamOptions{}, events...)
		require.NoError(t, err)
	}
	return c, client
}

// GetClient gives another client of a node.
func GetClient(t *testing.T, c *Container) *esdb.Client {
	switch {
	case cluster():
		return CreateClient("esdb://admin:changeit@localhost:2111,localhost:2112,localhost:2113?nodepreference=leader&tlsverifycert=false&maxDiscoverAttempts=50&defaultDeadline=60000", t)
	case insecure():
		return CreateClient("esdb://"+c.Endpoint+"?tls=false", t)
	}
	return CreateClient("esdb://admin:changeit@"+c.Endpoint+"?tlsverifycert=false&tls=true", t)
}

// CreateClient gives a client by its connection string.
func CreateClient(address string, t *testing.T) *esdb.Client {
	config, err := esdb.ParseConnectionString(address)
	require.NoError(t, err)
	client, err := esdb.NewClient(config)
	require.NoError(t, err)
	return client
}

// WaitForAdminToBeAvailable need not wait: a node of ours has its users when it answers.
func WaitForAdminToBeAvailable(*testing.T, *esdb.Client) {}

// IsESDBVersion20 is about servers that lack persistent subscriptions to $all.
func IsESDBVersion20() bool { return false }
