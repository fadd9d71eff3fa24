// Streams, events, what a stream captures, and when its work is done. Part of driver.c.
//
// A stream's time moves with its kernels alone: a millisecond each, so that a clock that looks at
// another stream sees nothing. Copies and memsets are done as they are called; with `late=1` as
// late as CUDA allows: when their stream, or an event behind them, is waited for. Whatever the host
// changes in between, it finds changed.

enum { LAUNCH, SET, COPY, STREAMS = 64 };
typedef struct { int kind; Handle a, b; size_t size; char text[1600]; } Node;
typedef struct { int count, room; Node* nodes; } Graph;
typedef struct { Handle stream, a, b; int kind; size_t size; } Work;
typedef struct { Handle stream; int recorded; size_t behind; double at; } Event;
static Handle capturing;  // the stream, 0 for none
static int broken;
static Graph* graph;
static Work* queue;
static size_t waiting, room;
static struct { Handle stream; double now; } times[STREAMS];

static double* time_of(Handle stream) {  // milliseconds
    int i = 0;
    while (i < STREAMS - 1 && times[i].stream && times[i].stream != stream) i++;
    times[i].stream = stream;
    return &times[i].now;
}

static void perform(const Node* n) {
    if (n->kind == SET) memset((void*)n->a, (int)n->b, n->size);
    if (n->kind == COPY) memcpy((void*)n->a, (void*)n->b, n->size);
}

static void finish(Handle stream, size_t end) {  // what lies before `end`, of a stream or of all
    for (size_t i = 0; i < end && i < waiting; i++) {
        Work* w = &queue[i];
        if (!w->size || (stream && w->stream != stream)) continue;
        perform(&(Node){w->kind, w->a, w->b, w->size});
        w->size = 0;
    }
}

static void begin(Handle stream, const Node* node) {
    if (node->kind == LAUNCH) *time_of(stream) += 1;
    if (node->kind == LAUNCH || !number("late", 0)) return perform(node);
    if (waiting == room) queue = realloc(queue, (room += 1024) * sizeof(Work));
    queue[waiting++] = (Work){stream, node->a, node->b, node->kind, node->size};
}

static void enqueue(Handle stream, Node node) {
    if (!capturing || stream != capturing) {
        record("%s", node.text);
        begin(stream, &node);
        return;
    }
    record("captured %s", node.text);
    if (graph->count == graph->room)
        graph->nodes = realloc(graph->nodes, (graph->room += 64) * sizeof(Node));
    graph->nodes[graph->count++] = node;
}

static Result waits(const char* name, Handle stream) {  // refused while a stream is captured
    record("%s stream=%lx", name, (long)stream);
    if (capturing) return broken = 1, UNSUPPORTED_IN_CAPTURE;
    int failure = number(name, 0);
    if (!failure) finish(stream, waiting);
    return failure;
}

Result cuStreamCreate(Handle* s, unsigned f) {
    *s = fresh();
    ENTER("cuStreamCreate flags=%u stream=%lx", f, (long)*s);
    return 0;
}
Result cuStreamQuery(Handle s) { return waits(__func__, s); }
Result cuStreamSynchronize(Handle s) { return waits(__func__, s); }
Result cuCtxSynchronize(void) { return waits(__func__, 0); }
Result cuEventCreate(Handle* e, unsigned f) {
    *e = (Handle)calloc(1, sizeof(Event));
    ENTER("cuEventCreate");
    return 0;
}
Result cuEventRecord(Handle e, Handle s) {
    ENTER("cuEventRecord stream=%lx", (long)s);
    *(Event*)e = (Event){s, 1, waiting, *time_of(s)};
    return 0;
}
Result cuEventQuery(Handle e) {
    record("%s stream=0", __func__);
    if (capturing) return broken = 1, UNSUPPORTED_IN_CAPTURE;
    int failure = number(__func__, 0);
    if (!failure) finish(((Event*)e)->stream, ((Event*)e)->behind);
    return failure;
}
Result cuEventElapsedTime_v2(float* ms, Handle a, Handle b) {
    Event *from = (Event*)a, *to = (Event*)b;
    *ms = (float)(to->at - from->at);
    return from->recorded && to->recorded ? 0 : INVALID_HANDLE;
}

Result cuStreamBeginCapture_v2(Handle s, int mode) {
    ENTER("cuStreamBeginCapture_v2 mode=%d stream=%lx", mode, (long)s);
    capturing = s, broken = 0;
    graph = calloc(1, sizeof(Graph));
    return 0;
}
Result cuStreamIsCapturing(Handle s, int* status) {
    *status = capturing ? 1 + broken : 0;
    return 0;
}
Result cuStreamEndCapture(Handle s, Handle* g) {
    ENTER("cuStreamEndCapture stream=%lx", (long)s);
    *g = broken ? 0 : (Handle)graph;
    capturing = 0;
    return broken ? INVALIDATED : 0;
}
Result cuGraphInstantiateWithFlags(Handle* e, Handle g, unsigned long long f) {
    ENTER("cuGraphInstantiateWithFlags");
    *e = g;
    return 0;
}
Result cuGraphLaunch(Handle e, Handle s) {
    Graph* known = (Graph*)e;
    ENTER("cuGraphLaunch nodes=%d stream=%lx", known->count, (long)s);
    for (int i = 0; i < known->count; i++) {
        record("node %s", known->nodes[i].text);
        begin(s, &known->nodes[i]);
    }
    return 0;
}
