//! S3's operations, as the protocol layer calls them. What is not here is answered with NotImplemented.

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::failure::{blocking, failed};
use super::{Store, complete, lists, multipart, objects};

#[async_trait::async_trait]
impl S3 for Store {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let (store, name) = (self.clone(), request.input.bucket);
        let location = Some(format!("/{name}"));
        if !blocking(move || store.create_bucket(&name).map_err(failed)).await? {
            return Err(s3_error!(
                BucketAlreadyOwnedByYou,
                "The bucket is there already, and it is yours."
            ));
        }
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: request.region.map(|r| r.to_string()),
            ..Default::default()
        }))
    }

    async fn get_bucket_cors(
        &self,
        request: S3Request<GetBucketCorsInput>,
    ) -> S3Result<S3Response<GetBucketCorsOutput>> {
        let cors = self.bucket(&request.input.bucket)?.settings().cors;
        let cors = cors.ok_or_else(|| {
            s3_error!(NoSuchCORSConfiguration, "The CORS configuration does not exist")
        })?;
        Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(cors.cors_rules) }))
    }

    async fn put_bucket_cors(
        &self,
        request: S3Request<PutBucketCorsInput>,
    ) -> S3Result<S3Response<PutBucketCorsOutput>> {
        let bucket = self.bucket(&request.input.bucket)?;
        let cors = request.input.cors_configuration;
        if cors.cors_rules.is_empty() || cors.cors_rules.len() > 100 {
            return Err(s3_error!(MalformedXML, "A CORS configuration has 1 to 100 rules."));
        }
        let mut methods = cors.cors_rules.iter().flat_map(|rule| &rule.allowed_methods);
        let known = ["GET", "PUT", "HEAD", "POST", "DELETE"];
        if let Some(method) = methods.find(|method| !known.contains(&method.as_str())) {
            return Err(s3_error!(
                InvalidRequest,
                "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            ));
        }
        blocking(move || bucket.set_cors(Some(cors)).map_err(failed)).await?;
        Ok(S3Response::new(PutBucketCorsOutput::default()))
    }

    async fn delete_bucket_cors(
        &self,
        request: S3Request<DeleteBucketCorsInput>,
    ) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
        let bucket = self.bucket(&request.input.bucket)?;
        blocking(move || bucket.set_cors(None).map_err(failed)).await?;
        Ok(S3Response::new(DeleteBucketCorsOutput::default()))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        objects::put(self.bucket(&request.input.bucket)?, request).await
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        objects::head(self.bucket(&request.input.bucket)?, request.input).await
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        objects::get(self.bucket(&request.input.bucket)?, request.input).await
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        objects::delete(self.bucket(&request.input.bucket)?, request.input).await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        objects::delete_many(self.bucket(&request.input.bucket)?, request.input).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let bucket = self.bucket(&request.input.bucket)?;
        blocking(move || lists::objects(&bucket, request.input)).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        multipart::create(self.bucket(&request.input.bucket)?, request.input).await
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        multipart::put_part(self.bucket(&request.input.bucket)?, request).await
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let CopySource::Bucket { bucket, key, version_id } = &request.input.copy_source else {
            return Err(s3_error!(NotImplemented, "A copy's source is a bucket and a key here."));
        };
        if version_id.as_deref().is_some_and(|version| version != "null") {
            return Err(s3_error!(InvalidArgument, "Invalid version id specified"));
        }
        let (from, key) = (self.bucket(bucket)?, key.to_string());
        multipart::copy_part(self.bucket(&request.input.bucket)?, from, key, request.input).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        complete::complete(self.bucket(&request.input.bucket)?, request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        multipart::abort(self.bucket(&request.input.bucket)?, request.input).await
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        lists::parts(self.bucket(&request.input.bucket)?, request.input).await
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let bucket = self.bucket(&request.input.bucket)?;
        blocking(move || lists::uploads(&bucket, request.input)).await
    }
}
