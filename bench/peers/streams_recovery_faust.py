"""A table of Faust's, in memory, from the assignment until it is recovered."""

from faust_worker import app, end_when_done, meter, name, run, total

counts = app.Table('counts', partitions=4)


@app.agent(app.topic(name))
async def work(stream):
    async for _ in stream:
        counts['x'] = {}


@app.on_partitions_assigned.connect
async def begin(*args, **kwargs):
    meter.start()


@counts.on_recover
async def end(*args):
    if len(counts) < total:
        raise RuntimeError(f'{len(counts)} keys of {total} were recovered')
    meter.finish()
    end_when_done()


run()
