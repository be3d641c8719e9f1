"""A count by key in a table of Faust's, in memory: its fastest store."""

from faust_worker import app, hit, name, run

counts = app.Table('counts', default=int, partitions=4)


@app.agent(app.topic(name, key_type=str, key_serializer='raw', value_serializer='json'))
async def counting(stream):
    async for key, _ in stream.items():
        counts[key] += 1
        hit()


run()
