// Run emitted files in one of ONNX Runtime's packages for JavaScript, on one thread: in Node or in a page.
//
//     node web_probe.mjs FOLDER MODULE STEM
//
// FOLDER holds what web_probe.py puts there: cases.json, a list of {file, shape, window}, and for each
// file its images as float32 beside it. MODULE is what to import; STEM the only file to run, or nothing
// for all. Prints one JSON document: the version, and for each file its logits and what runtime_probe.py
// measures, or what was said against it.

const LOADS = 3;
// milliseconds of the processor, which Node alone tells: nothing is measured in a page
const node = typeof process !== "undefined";
const now = () => (node ? (({ user, system }) => (user + system) / 1000)(process.cpuUsage()) : 0);

async function outcome(ort, options, model, images, { shape, window }) {
  const load = () => ort.InferenceSession.create(model, options);
  const used = () => (ort.env.versions.node ? process.memoryUsage().rss : 0);
  const before = used();
  let begun = now();
  const session = await load();
  let spent = now() - begun;
  const memory = used() - before;
  const run = async (data, sizes) => {
    const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", data, sizes) };
    return (await session.run(feeds))[session.outputNames[0]].data;
  };
  const logits = Array.from(await run(images, shape));
  if (!window || !node) return { logits };
  for (let count = 1; count < LOADS; count++) {
    begun = now();
    await (await load()).release();
    spent = Math.min(spent, now() - begun);
  }
  const one = images.slice(0, images.length / shape[0]);
  let latency = Infinity;
  for (const until = performance.now() + window; performance.now() < until; ) {
    begun = now();
    await run(one, [1, ...shape.slice(1)]);
    latency = Math.min(latency, now() - begun);
  }
  return { logits, load: spent / 1000, latency: latency / 1000, ...(memory && { memory }) };
}

export async function answers(ort, read, stem) {
  const providers = [ort.env.versions.node ? "cpu" : "wasm"];
  const options = { executionProviders: providers, intraOpNumThreads: 1, interOpNumThreads: 1 };
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const cases = JSON.parse(new TextDecoder().decode(await read("cases.json")));
  const found = {};
  for (const item of cases.filter(({ file }) => !stem || file === stem)) {
    try {
      const bytes = await read(`${item.file}.images`);
      const images = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
      found[item.file] = await outcome(ort, options, await read(`${item.file}.onnx`), images, item);
    } catch (error) {
      found[item.file] = { error: String(error.message ?? error) };
    }
  }
  return { version: ort.env.versions.common, found };
}

if (node) {
  const { readFile } = await import("node:fs/promises");
  const [folder, packaged, stem] = process.argv.slice(2);
  const read = async (name) => new Uint8Array(await readFile(`${folder}/${name}`));
  const imported = await import(packaged);
  console.log(JSON.stringify(await answers(imported.default ?? imported, read, stem)));
}
