// Run emitted files in onnxruntime-web, by Node or by a page: its wasm, on one thread.
//
//     node web_probe.mjs FOLDER PACKAGE
//
// FOLDER holds what web_probe.py puts there: cases.json, a list of {file, shape}, and for each file
// its images as float32 beside it. PACKAGE is the module to import. Prints one JSON document: the
// version, and for each file its logits, or what was said against it.

export async function answers(ort, read) {
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const cases = JSON.parse(new TextDecoder().decode(await read("cases.json")));
  const found = {};
  for (const { file, shape } of cases) {
    try {
      const options = { executionProviders: ["wasm"] };
      const session = await ort.InferenceSession.create(await read(`${file}.onnx`), options);
      const bytes = await read(`${file}.images`);
      const images = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
      const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", images, shape) };
      const logits = (await session.run(feeds))[session.outputNames[0]];
      found[file] = { logits: Array.from(logits.data) };
    } catch (error) {
      found[file] = { error: String(error.message ?? error) };
    }
  }
  return { version: ort.env.versions.common, found };
}

if (typeof process !== "undefined") {
  const { readFile } = await import("node:fs/promises");
  const [folder, packaged] = process.argv.slice(2);
  const read = async (name) => new Uint8Array(await readFile(`${folder}/${name}`));
  console.log(JSON.stringify(await answers(await import(packaged), read)));
}
